//! Standard output for lines by the thousand.

use serde::Serialize;
use std::io::{self, BufWriter, StdoutLock, Write};

/// Standard output. When nobody reads it any more (`| head`), what is said is lost, and the exit
/// code is still right.
pub(super) struct Stdout {
    to: BufWriter<StdoutLock<'static>>,
    lost: bool,
}

impl Stdout {
    pub(super) fn new() -> Self {
        Self { to: BufWriter::new(io::stdout().lock()), lost: false }
    }

    /// Writes a line, or several.
    pub(super) fn line(&mut self, text: &str) {
        if !self.lost {
            self.lost = writeln!(self.to, "{text}").is_err();
        }
    }

    /// Writes a JSON object.
    pub(super) fn object(&mut self, object: &impl Serialize) {
        let text = serde_json::to_string(object).expect("plain data is JSON");
        self.line(&text);
    }

    /// Lets everything be seen that was said so far.
    pub(super) fn flush(&mut self) {
        self.lost |= self.to.flush().is_err();
    }
}

impl Drop for Stdout {
    fn drop(&mut self) {
        self.flush();
    }
}
