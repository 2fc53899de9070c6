//! The wish to end: a signal, Ctrl-C, `quit`, the end of the input, a reader that is gone.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// A wish to end that anybody may utter and everybody can wait for.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown(watch::Sender<bool>);

impl Shutdown {
    /// Nobody wishes to end yet.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Wishes to end.
    pub(crate) fn request(&self) {
        self.0.send_replace(true);
    }

    /// Waits until somebody wishes to end.
    pub(crate) async fn requested(&self) {
        let wished = self.0.subscribe().wait_for(|wished| *wished).await.is_ok();
        assert!(wished, "this holds a sender itself");
    }

    /// Lets SIGINT and SIGTERM wish so, and SIGHUP where `terminal` says that there is one to lose
    /// (elsewhere it may be ignored on purpose, as `nohup` does).
    pub(crate) fn on_signals(&self, terminal: bool) -> std::io::Result<()> {
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        if terminal {
            kinds.push(SignalKind::hangup());
        }
        for kind in kinds {
            let mut signals = signal(kind)?;
            let shutdown = self.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    shutdown.request();
                }
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wish_is_remembered() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        clone.request();
        shutdown.requested().await;
        clone.requested().await;
    }
}
