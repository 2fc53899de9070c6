//! The terminal, and how to give it back as it was found.

use crate::output::Printer;
use rustix::termios::{self, OptionalActions, Termios};
use rustyline::{Config, DefaultEditor};
use std::io::{self, Write};

/// The state of the terminal when the program began. A line editor changes it, and its thread
/// may be in the middle of a line when the program ends.
pub(crate) struct Terminal {
    found: Option<Termios>,
}

impl Terminal {
    /// Looks at the terminal, if there is one.
    pub(crate) fn find() -> Self {
        Self { found: termios::tcgetattr(io::stdin()).ok() }
    }

    /// Whether standard input is a terminal.
    pub(crate) fn exists(&self) -> bool {
        self.found.is_some()
    }

    /// A line editor, and a printer that prints above its line. None if this terminal cannot.
    #[expect(clippy::unused_self, reason = "only who can give it back may change it")]
    pub(crate) fn editor(&self) -> Option<(DefaultEditor, Printer)> {
        // Who pastes several lines means several commands.
        let config = Config::builder().bracketed_paste(false).build();
        let mut editor = DefaultEditor::with_config(config).ok()?;
        let printer = editor.create_external_printer().ok()?;
        Some((editor, Box::new(printer)))
    }

    /// Gives it back.
    pub(crate) fn restore(&self) {
        let Some(found) = &self.found else { return };
        let now = termios::tcgetattr(io::stdin());
        if now.is_ok_and(|now| now.local_modes != found.local_modes) {
            // Somebody was typing: what comes next begins below that. A terminal that is gone
            // needs neither.
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, found);
            let _ = writeln!(io::stdout());
        }
    }
}
