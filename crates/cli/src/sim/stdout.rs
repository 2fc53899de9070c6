//! Standard output for lines by the thousand.

use serde::Serialize;
use std::io::{self, BufWriter, Write};

/// Standard output. When nobody reads it any more (`| head`), what is said is lost, and the exit
/// code is still right.
pub(super) struct Stdout {
    to: BufWriter<Box<dyn Write>>,
    lost: bool,
}

impl Stdout {
    pub(super) fn new() -> Self {
        Self::to(io::stdout().lock())
    }

    fn to(writer: impl Write + 'static) -> Self {
        Self { to: BufWriter::new(Box::new(writer)), lost: false }
    }

    /// One that a test can read.
    #[cfg(test)]
    pub(super) fn captured() -> (Self, std::sync::mpsc::Receiver<Vec<u8>>) {
        struct Tell(std::sync::mpsc::Sender<Vec<u8>>);
        impl Write for Tell {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.send(bytes.into()).map_err(io::Error::other)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (tell, said) = std::sync::mpsc::channel();
        (Self::to(Tell(tell)), said)
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
