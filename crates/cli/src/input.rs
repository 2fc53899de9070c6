//! Where answers and commands come from: a person at a terminal, or a script through a pipe.
//!
//! A thread of its own reads, so that nothing ever waits for somebody to type.

use crate::{
    args::Format,
    failure::Usage,
    output::{Output, Printer},
    terminal::Terminal,
};
use rustyline::{DefaultEditor, error::ReadlineError};
use std::{
    collections::VecDeque,
    io::{self, BufRead, IsTerminal, Read},
    sync::mpsc as blocking,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// The longest line, in bytes: longer ones are refused whole.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Lines that are read ahead while a script's command is pending.
const AHEAD_MAX: usize = 1024;
/// Lines that come closer together than this were written together.
const TOGETHER: Duration = Duration::from_millis(100);

/// What stands before the line at a terminal.
const PROMPT: &str = "> ";

/// Where lines come from.
#[derive(Debug)]
pub(crate) struct Input {
    kind: Kind,
    lines: mpsc::Receiver<Heard>,
    /// Lines of a script that wait for a pending command.
    ahead: VecDeque<Line>,
    /// When the line before was read.
    last: Option<Instant>,
    ended: bool,
}

#[derive(Debug)]
enum Kind {
    /// A person with a line editor, who is asked for one line at a time.
    Editor { ask: blocking::Sender<String>, asked: bool },
    /// A person whose terminal shows what they type by itself.
    Typist,
    /// A script.
    Script,
}

/// What the thread has read.
#[derive(Debug)]
enum Heard {
    Line(Line),
    /// Ctrl-C, seen by the editor.
    Interrupted,
    End,
}

#[derive(Debug)]
struct Line {
    /// None: it was too long.
    text: Option<String>,
    at: Instant,
}

/// A command, or the end of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// A line.
    Line(String),
    /// A line that is too long to be one.
    TooLong,
    /// The program should end: at once, or when what is pending is done.
    Quit { at_once: bool },
    /// There are no more commands.
    End,
}

impl Input {
    /// Finds out what standard input is, and starts to read it. With a line editor comes the
    /// printer that knows how to print while somebody types.
    pub(crate) fn start(format: Format, terminal: &Terminal) -> (Self, Option<Printer>) {
        let (read, lines) = mpsc::channel(64);
        let new = |kind| Self { kind, lines, ahead: VecDeque::new(), last: None, ended: false };
        if !io::stdin().is_terminal() {
            spawn(move || read_lines(&read));
            return (new(Kind::Script), None);
        }
        let edits = format == Format::Human && io::stdout().is_terminal();
        if let Some((editor, printer)) = edits.then(|| terminal.editor()).flatten() {
            let (ask, asked) = blocking::channel();
            spawn(move || edit_lines(editor, &asked, &read));
            return (new(Kind::Editor { ask, asked: false }), Some(printer));
        }
        spawn(move || read_lines(&read));
        (new(Kind::Typist), None)
    }

    /// Whether a script is at the other end: then there are no prompts, and one command is taken
    /// after the other.
    pub(crate) fn is_script(&self) -> bool {
        matches!(self.kind, Kind::Script)
    }

    /// Asks a question until the answer is one; a script has one try. None: whoever was asked
    /// would rather end the program.
    pub(crate) async fn answer<T>(
        &mut self,
        question: &str,
        output: &Output,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Usage> {
        loop {
            match &mut self.kind {
                Kind::Editor { ask, .. } => {
                    // If the thread is gone, the end has come, and is read below.
                    let _ = ask.send(format!("{question}: "));
                }
                Kind::Typist => output.aside(format!("{question}:")).await,
                Kind::Script => {}
            }
            let text = match self.lines.recv().await {
                Some(Heard::Line(line)) => {
                    self.last = Some(line.at);
                    line.text.unwrap_or_default()
                }
                Some(Heard::Interrupted) => return Ok(None),
                Some(Heard::End) | None if self.is_script() => {
                    let reason = "give it with its flag, or as a line of the input";
                    return Err(Usage(format!("the input ended before \"{question}\"; {reason}")));
                }
                Some(Heard::End) | None => return Ok(None),
            };
            match check(text.trim()) {
                Ok(answer) => return Ok(Some(answer)),
                Err(reason) if self.is_script() => {
                    return Err(Usage(format!("{question}: {reason}")));
                }
                Err(reason) => output.note(reason).await,
            }
        }
    }

    /// The next command; never, after the last one. While a command is `pending`, a script gets
    /// no further: only a `quit` that comes on its own is heard, since whoever writes that does
    /// not want to wait any longer.
    ///
    /// Nothing is lost if the wait for this is given up.
    pub(crate) async fn command(&mut self, quit: &str, pending: bool) -> Command {
        loop {
            let hold = pending && self.is_script();
            if !hold && let Some(line) = self.ahead.pop_front() {
                return line.command(quit, false);
            }
            if self.ended && (hold || self.ahead.is_empty()) || self.ahead.len() >= AHEAD_MAX {
                return std::future::pending().await;
            }
            if let Kind::Editor { ask, asked } = &mut self.kind
                && !std::mem::replace(asked, true)
            {
                let _ = ask.send(PROMPT.into());
            }
            let read = self.lines.recv().await.unwrap_or(Heard::End);
            if let Kind::Editor { asked, .. } = &mut self.kind {
                *asked = false;
            }
            match read {
                Heard::Interrupted => return Command::Quit { at_once: true },
                Heard::End => {
                    self.ended = true;
                    return Command::End;
                }
                Heard::Line(line) => {
                    let before = self.last.replace(line.at);
                    let alone = before.is_none_or(|before| line.at - before > TOGETHER);
                    let at_once = alone || !self.is_script();
                    if hold && !(at_once && line.is(quit)) {
                        self.ahead.push_back(line);
                    } else {
                        return line.command(quit, at_once);
                    }
                }
            }
        }
    }

    /// Whether commands are waiting that have been read.
    pub(crate) fn has_commands(&self) -> bool {
        !self.ahead.is_empty()
    }
}

impl Line {
    fn is(&self, word: &str) -> bool {
        self.text.as_deref().is_some_and(|text| text.trim() == word)
    }

    fn command(self, quit: &str, at_once: bool) -> Command {
        if self.is(quit) {
            return Command::Quit { at_once };
        }
        self.text.map_or(Command::TooLong, Command::Line)
    }
}

fn spawn(read: impl FnOnce() + Send + 'static) {
    thread::Builder::new()
        .name("input".into())
        .spawn(read)
        .expect("the system has room for one more thread");
}

/// Reads standard input line by line.
fn read_lines(read: &mpsc::Sender<Heard>) {
    let mut stdin = io::stdin().lock();
    // Input that cannot be read has ended.
    while let Ok(Some(text)) = read_line(&mut stdin) {
        let line = Line { text, at: Instant::now() };
        if read.blocking_send(Heard::Line(line)).is_err() {
            return;
        }
    }
    let _ = read.blocking_send(Heard::End);
}

/// Reads one line, without its end; nothing at the end of the input, and `Some(None)` for a line
/// that is too long.
#[expect(clippy::option_option, reason = "the end and a line without text are not the same")]
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Option<String>>> {
    let mut bytes = Vec::new();
    if input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    } else if bytes.len() as u64 == LINE_BYTES_MAX {
        input.skip_until(b'\n')?;
        return Ok(Some(None));
    }
    Ok(Some(Some(String::from_utf8_lossy(&bytes).into_owned())))
}

/// Lets somebody type a line whenever one is asked for.
fn edit_lines(
    mut editor: DefaultEditor,
    asked: &blocking::Receiver<String>,
    read: &mpsc::Sender<Heard>,
) {
    while let Ok(prompt) = asked.recv() {
        let line = match editor.readline(&prompt) {
            Ok(text) => {
                if prompt == PROMPT && !text.trim().is_empty() {
                    let _ = editor.add_history_entry(&text);
                }
                Heard::Line(Line { text: Some(text), at: Instant::now() })
            }
            Err(ReadlineError::Interrupted) => Heard::Interrupted,
            Err(_) => Heard::End,
        };
        let last = !matches!(line, Heard::Line(_));
        if read.blocking_send(line).is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Shutdown;

    fn script() -> (Input, mpsc::Sender<Heard>) {
        let (read, lines) = mpsc::channel(64);
        let kind = Kind::Script;
        (Input { kind, lines, ahead: VecDeque::new(), last: None, ended: false }, read)
    }

    async fn say(read: &mpsc::Sender<Heard>, text: &str, at: Instant) {
        let line = Line { text: Some(text.into()), at };
        read.send(Heard::Line(line)).await.unwrap();
    }

    async fn nothing(input: &mut Input, pending: bool) {
        let wait = Duration::from_millis(20);
        let command = tokio::time::timeout(wait, input.command("quit", pending)).await;
        assert!(command.is_err(), "{command:?}");
    }

    fn line(text: &str) -> Command {
        Command::Line(text.into())
    }

    #[tokio::test]
    async fn a_script_waits_for_its_pending_command() {
        let (mut input, read) = script();
        let now = Instant::now();
        for text in ["lock", "unlock", "quit"] {
            say(&read, text, now).await;
        }
        read.send(Heard::End).await.unwrap();
        assert_eq!(input.command("quit", false).await, line("lock"));
        // The end is heard, to be remembered by the caller; the commands wait.
        assert_eq!(input.command("quit", true).await, Command::End);
        nothing(&mut input, true).await;
        assert!(input.has_commands());
        assert_eq!(input.command("quit", false).await, line("unlock"));
        assert_eq!(input.command("quit", false).await, Command::Quit { at_once: false });
        nothing(&mut input, false).await;
    }

    #[tokio::test]
    async fn a_quit_on_its_own_is_heard_at_once() {
        let (mut input, read) = script();
        let now = Instant::now();
        say(&read, "lock", now).await;
        assert_eq!(input.command("quit", false).await, line("lock"));
        say(&read, "unlock", now + Duration::from_secs(1)).await;
        nothing(&mut input, true).await;
        say(&read, "quit", now + Duration::from_secs(2)).await;
        assert_eq!(input.command("quit", true).await, Command::Quit { at_once: true });
    }

    #[tokio::test]
    async fn reading_ahead_has_a_limit() {
        let (mut input, read) = script();
        let now = Instant::now();
        let writer = tokio::spawn(async move {
            for n in 0..2 * AHEAD_MAX {
                say(&read, &n.to_string(), now).await;
            }
        });
        nothing(&mut input, true).await;
        assert_eq!(input.ahead.len(), AHEAD_MAX);
        for n in 0..2 * AHEAD_MAX {
            assert_eq!(input.command("quit", false).await, line(&n.to_string()));
        }
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn a_script_answers_once() {
        let (mut input, read) = script();
        let output = Output::start(Format::Json, None, Shutdown::new());
        let check = |text: &str| text.parse::<u8>().map_err(|_| "no number".to_owned());
        say(&read, " 7 ", Instant::now()).await;
        assert_eq!(input.answer("how many", &output, check).await, Ok(Some(7)));
        say(&read, "x", Instant::now()).await;
        let error = input.answer("how many", &output, check).await.unwrap_err();
        assert_eq!(error.0, "how many: no number");
        read.send(Heard::End).await.unwrap();
        let error = input.answer("how many", &output, check).await.unwrap_err();
        assert!(error.0.starts_with("the input ended before \"how many\""));
    }

    #[test]
    fn lines_end_in_every_way() {
        let mut long = vec![b'x'; usize::try_from(LINE_BYTES_MAX).unwrap() + 5];
        long.extend_from_slice(b"\nb\n\nlast\xff");
        let mut input = io::Cursor::new([b"a\r\n".as_slice(), &long].concat());
        let mut next = || read_line(&mut input).unwrap();
        assert_eq!(next(), Some(Some("a".into())));
        assert_eq!(next(), Some(None));
        assert_eq!(next(), Some(Some("b".into())));
        assert_eq!(next(), Some(Some(String::new())));
        assert_eq!(next(), Some(Some("last\u{fffd}".into())));
        assert_eq!(next(), None);
    }
}
