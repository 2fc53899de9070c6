//! What the program says: lines for people, or one JSON object per line.
//!
//! A thread of its own writes, so that a reader who does not read holds up nothing but what is
//! said: the network goes on, and the program can still be ended.

mod human;
mod report;

pub(crate) use report::{
    Clock, HeadWait, MemberClock, Message, PeerLine, PeerState, Queue, Queued, QuorumState, Report,
    RingStatus, Rumor, RumorStatus,
};

use crate::{args::Format, shutdown::Shutdown};
use rustyline::ExternalPrinter;
use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Lines that may wait for the writer; then who says more waits.
const QUEUE: usize = 1024;
/// Lines that are written at once.
const BATCH_BYTES: usize = 64 << 10;
/// How long the end of the program waits for a reader who does not read.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Where everything is said. Clones say it in the same place.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    format: Format,
    lines: mpsc::Sender<Line>,
    /// Whether the program is about to end, and waits no longer for a reader who does not read.
    hurried: Arc<AtomicBool>,
}

/// What the writer is told.
#[derive(Debug)]
enum Line {
    /// A line for stdout.
    Out(String),
    /// A line for stderr.
    Err(String),
    /// Everything before this has been written.
    Flush(oneshot::Sender<()>),
}

/// A terminal whose user may be typing: prints above the line.
pub(crate) type Printer = Box<dyn ExternalPrinter + Send>;

impl Output {
    /// Starts the writer. If nobody reads any more, it requests `shutdown`.
    pub(crate) fn start(format: Format, printer: Option<Printer>, shutdown: Shutdown) -> Self {
        let (lines, queue) = mpsc::channel(QUEUE);
        let hurried = Arc::<AtomicBool>::default();
        let ending = Arc::clone(&hurried);
        thread::Builder::new()
            .name("output".into())
            .spawn(move || {
                let written = match printer {
                    Some(printer) => print(queue, printer, &ending),
                    None => write(queue),
                };
                if written.is_err() {
                    shutdown.request();
                }
            })
            .expect("the system has room for one more thread");
        Self { format, lines, hurried }
    }

    /// What is said for people, for a test to read.
    #[cfg(test)]
    pub(crate) fn captured() -> (Self, std::sync::mpsc::Receiver<String>) {
        let (lines, mut queue) = mpsc::channel(QUEUE);
        let (tell, said) = std::sync::mpsc::channel();
        let (hurried, format) = (Arc::default(), Format::Human);
        thread::spawn(move || {
            while let Some(line) = queue.blocking_recv() {
                match line {
                    Line::Out(text) | Line::Err(text) => drop(tell.send(text)),
                    Line::Flush(done) => drop(done.send(())),
                }
            }
        });
        (Self { format, lines, hurried }, said)
    }

    /// From now on nothing waits long for who does not read: the program is about to end.
    pub(crate) fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    /// Whether this is for people.
    pub(crate) fn is_human(&self) -> bool {
        self.format == Format::Human
    }

    /// Says what happened.
    pub(crate) async fn report(&self, report: Report) {
        let line = match self.format {
            Format::Json => Line::Out(report.to_json()),
            Format::Human if matches!(report, Report::Error { .. }) => {
                Line::Err(human::describe(&report))
            }
            Format::Human => Line::Out(human::describe(&report)),
        };
        self.send(line).await;
    }

    /// Says that something could not be done: what, why, and what to do.
    pub(crate) async fn error(&self, message: impl Into<String>) {
        self.report(Report::Error { message: message.into() }).await;
    }

    /// Says something that only people care about.
    pub(crate) async fn note(&self, text: impl AsRef<str>) {
        if self.is_human() {
            self.send(Line::Out(escape_lines(text.as_ref()))).await;
        }
    }

    /// Answers a command.
    pub(crate) async fn answer(&self, answer: Result<String, String>) {
        match answer {
            Ok(text) => self.note(text).await,
            Err(reason) => self.error(reason).await,
        }
    }

    /// Says something on the side: a warning, or help that no script reads.
    pub(crate) async fn aside(&self, text: impl AsRef<str>) {
        self.send(Line::Err(escape_lines(text.as_ref()))).await;
    }

    /// Says what is no event, but worth a line: a link that broke, the help that was asked for.
    pub(crate) async fn line(&self, text: impl AsRef<str>) {
        if self.is_human() {
            self.note(text).await;
        } else {
            self.aside(text).await;
        }
    }

    /// Waits until everything said so far has been written.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        self.send(Line::Flush(done)).await;
        if self.hurried.load(Ordering::Relaxed) {
            let _ = timeout(LAST_WORDS, written).await;
        } else {
            // An error says that the writer is gone: then nothing more will be written.
            let _ = written.await;
        }
    }

    async fn send(&self, line: Line) {
        // An error says that nobody reads any more: the shutdown is under way.
        if self.hurried.load(Ordering::Relaxed) {
            let _ = self.lines.send_timeout(line, LAST_WORDS).await;
        } else {
            let _ = self.lines.send(line).await;
        }
    }

    /// A place for log lines that prints them above the line that is being typed.
    pub(crate) fn log(&self) -> Log {
        Log { lines: self.lines.clone(), text: Arc::default() }
    }
}

/// Says something once, where nothing else is said: the result of a command.
pub(crate) fn print_line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush())
}

/// Writes to stdout and stderr. Lines that wait are written together.
fn write(mut queue: mpsc::Receiver<Line>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let mut batch = String::new();
    while let Some(line) = queue.blocking_recv() {
        let mut next = Some(line);
        while let Some(line) = next {
            match line {
                Line::Out(text) => {
                    batch.push_str(&text);
                    batch.push('\n');
                }
                Line::Err(text) => {
                    flush(&mut stdout, &mut batch)?;
                    // Without stderr, the rest goes on all the same.
                    let _ = writeln!(io::stderr(), "{text}");
                }
                Line::Flush(done) => {
                    flush(&mut stdout, &mut batch)?;
                    let _ = done.send(());
                }
            }
            next = if batch.len() < BATCH_BYTES { queue.try_recv().ok() } else { None };
        }
        flush(&mut stdout, &mut batch)?;
    }
    Ok(())
}

fn flush(stdout: &mut io::StdoutLock<'_>, batch: &mut String) -> io::Result<()> {
    stdout.write_all(batch.as_bytes())?;
    batch.clear();
    stdout.flush()
}

/// Prints to a terminal, above the line that is being typed. When the program is `ending`, instead
/// of that line: the editor would have no time left to show it.
fn print(
    mut queue: mpsc::Receiver<Line>,
    mut printer: Printer,
    ending: &AtomicBool,
) -> io::Result<()> {
    while let Some(line) = queue.blocking_recv() {
        match line {
            Line::Out(text) | Line::Err(text) if ending.load(Ordering::Relaxed) => {
                // The terminal may be in the editor's hands, where a line feed is only that.
                let text = text.replace('\n', "\r\n");
                write!(io::stdout(), "\r\x1b[K{text}\r\n")?;
                io::stdout().flush()?;
            }
            Line::Out(text) | Line::Err(text) => {
                printer.print(format!("{text}\n")).map_err(io::Error::other)?;
            }
            Line::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
    Ok(())
}

/// Where log lines go while somebody types.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    lines: mpsc::Sender<Line>,
    text: Arc<Mutex<Vec<u8>>>,
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = self.text.lock().expect("nothing panics while it holds this");
        text.extend_from_slice(bytes);
        while let Some(end) = text.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            // A log that finds no room is lost: it must not hold up who writes it.
            let _ = self.lines.try_send(Line::Err(escape(&line)));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a text from elsewhere safe to show: what could move the cursor, change colours or the
/// direction of writing is spelled out.
pub(crate) fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if moves_the_cursor(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn escape_lines(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

/// Control characters, and the ones that reorder the text around them.
fn moves_the_cursor(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_groups() {
        let all = [0, 12, 123, 1_234, 123_456, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }

    #[test]
    fn nothing_from_elsewhere_moves_the_cursor() {
        assert_eq!(
            escape("a\x1b[2Jb\r\n\u{9b}31m\u{202e}x\t."),
            "a\\u{1b}[2Jb\\r\\n\\u{9b}31m\\u{202e}x\\t."
        );
        assert_eq!(escape("Grüße, 世界 🎵"), "Grüße, 世界 🎵");
        assert_eq!(escape_lines("a\nb\x07"), "a\nb\\u{7}");
    }

    #[tokio::test]
    async fn a_log_keeps_its_lines_whole() {
        let (lines, mut queue) = mpsc::channel(4);
        let output = Output { format: Format::Human, lines, hurried: Arc::default() };
        let mut log = output.log();
        log.write_all(b"one\nt").unwrap();
        log.write_all(b"wo\n").unwrap();
        for expected in ["one", "two"] {
            match queue.recv().await {
                Some(Line::Err(text)) => assert_eq!(text, expected),
                other => panic!("{other:?}"),
            }
        }
    }
}
