//! Texts on their way out: typed or generated, sent one after the other.

use crate::{args, generator::Generator, program::maybe};
use futures_util::future::{BoxFuture, FutureExt};
use std::collections::VecDeque;

/// Texts that may wait for being sent; then who types or generates waits.
const TEXTS_MAX: usize = 1024;
/// Generated texts leave room for typed ones.
const GENERATED_MAX: usize = 256;

/// How a text is sent; the answer comes when the next one may be.
type Send<T> = Box<dyn Fn(String) -> BoxFuture<'static, T>>;

/// Texts that wait for being sent, and the one that is being sent.
pub(crate) struct Outbox<T> {
    send: Send<T>,
    generator: Generator,
    texts: VecDeque<String>,
    sending: Option<BoxFuture<'static, T>>,
}

impl<T> Outbox<T> {
    /// Sends with `send`, and generates texts at this rate.
    pub(crate) fn new<F>(rate: Option<f64>, send: impl Fn(String) -> F + 'static) -> Self
    where
        F: Future<Output = T> + std::marker::Send + 'static,
    {
        let send: Send<T> = Box::new(move |text| send(text).boxed());
        Self { send, generator: Generator::new(rate), texts: VecDeque::new(), sending: None }
    }

    /// Waits until a text has been sent, and says how that went. Nothing is lost if the wait for
    /// this is given up.
    pub(crate) async fn sent(&mut self) -> T {
        loop {
            if self.sending.is_none() {
                self.sending = self.texts.pop_front().map(&self.send);
            }
            let room = self.texts.len() < GENERATED_MAX;
            tokio::select! {
                outcome = maybe(&mut self.sending) => {
                    self.sending = None;
                    return outcome;
                }
                text = self.generator.next(), if room => self.texts.push_back(text),
            }
        }
    }

    /// Adds a typed text, or says why not.
    pub(crate) fn push(&mut self, text: &str) -> Result<(), String> {
        if self.is_full() {
            return Err(format!("{TEXTS_MAX} texts wait already; wait for the others to come"));
        }
        self.texts.push_back(text.to_owned());
        Ok(())
    }

    /// Whether no more texts are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.texts.len() >= TEXTS_MAX
    }

    /// How many have not been sent.
    pub(crate) fn waiting(&self) -> usize {
        self.texts.len() + usize::from(self.sending.is_some())
    }

    /// Generates no more.
    pub(crate) fn end(&mut self) {
        self.generator.stop();
    }

    /// `/generate RATE`: the answer to it.
    pub(crate) fn generate(&mut self, rate: &str) -> Result<String, String> {
        let rate = args::rate(rate).map_err(|reason| format!("/generate: {reason}"))?;
        self.generator.start(rate);
        Ok(format!("generating {rate} per second; /stop ends that"))
    }

    /// `/stop`: the answer to it.
    pub(crate) fn stop(&mut self) -> Result<String, String> {
        if self.generator.stop() {
            Ok("nothing is generated any more".into())
        } else {
            Err("nothing is being generated; /generate RATE begins".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    #[tokio::test(start_paused = true)]
    async fn texts_go_out_one_after_the_other() {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&sent);
        let mut outbox = Outbox::new(None, move |text| {
            let record = Arc::clone(&record);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                record.lock().unwrap().push(text);
            }
        });
        for text in ["a", "b", "c"] {
            outbox.push(text).unwrap();
        }
        outbox.sent().await;
        // A wait that is given up loses nothing.
        let short = Duration::from_millis(500);
        assert!(tokio::time::timeout(short, outbox.sent()).await.is_err());
        assert_eq!(outbox.waiting(), 2);
        outbox.sent().await;
        outbox.sent().await;
        assert_eq!(
            (outbox.waiting(), &**sent.lock().unwrap()),
            (0, &["a", "b", "c"].map(String::from)[..])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn generated_texts_wait_for_the_others() {
        let mut outbox = Outbox::new(Some(1000.0), |_| std::future::pending::<()>());
        let wait = Duration::from_secs(10);
        assert!(tokio::time::timeout(wait, outbox.sent()).await.is_err());
        assert_eq!(outbox.waiting(), GENERATED_MAX + 1);
        for _ in GENERATED_MAX..TEXTS_MAX {
            outbox.push("typed").unwrap();
        }
        assert!(outbox.push("typed").is_err());
        assert!(outbox.stop().is_ok() && outbox.stop().is_err());
        assert!(outbox.generate("0").is_err() && outbox.generate("2").is_ok());
    }
}
