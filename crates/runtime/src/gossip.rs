//! Rumors as an application uses them.

use crate::{
    builder::Limits,
    mailbox::{Mailbox, Taken},
};
use bytes::Bytes;
use futures_core::Stream;
use roundelay_core::{Life, gossip::Refusal};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// What a subscription may hold unread before it lags, in rumors.
pub(crate) const UNREAD_RUMORS_MAX: usize = 65_536;
/// The same in bytes.
pub(crate) const UNREAD_RUMOR_BYTES_MAX: usize = 64 << 20;

/// Why a rumor was not published. It was said to nobody, unless a variant says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// This node takes no part in the gossip.
    #[error("this node takes no part in the gossip")]
    NoGossip,
    /// The rumor is larger than the limit.
    #[error("the rumor is larger than {limit} bytes")]
    TooLarge {
        /// The largest rumor, in bytes.
        limit: usize,
    },
    /// Too much is retained that no neighbour has confirmed.
    #[error("too many rumors wait for a neighbour")]
    Full,
    /// The node stopped. The rumor may be under way all the same.
    #[error("the node has stopped")]
    Stopped,
}

impl PublishError {
    pub(crate) fn from_refusal(refusal: Refusal, limits: &Limits) -> Self {
        match refusal {
            Refusal::TooLarge => Self::TooLarge { limit: limits.rumor_bytes_max },
            Refusal::Full => Self::Full,
        }
    }
}

/// A rumor that was heard: once per node and life, the own ones too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rumor {
    /// The name of the node that said it.
    pub origin: String,
    /// The life of that node: rumors are numbered per life.
    pub life: Life,
    /// Counts the rumors of that life, from 1.
    pub sequence: u64,
    /// How many links it crossed; 0 at the node that said it.
    pub hops: u32,
    /// What it says.
    pub payload: Bytes,
}

/// This subscription was read too slowly: so many rumors were heard and not kept for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} rumors were missed")]
pub struct Lagged(pub u64);

/// The rumors that are heard from the moment of the subscription.
#[derive(Debug)]
pub struct Rumors {
    pub(crate) mailbox: Arc<Mailbox<Rumor>>,
}

impl Rumors {
    /// The next rumor; none after the node has stopped.
    pub async fn next(&mut self) -> Option<Result<Rumor, Lagged>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Rumor, Lagged>>> {
        self.mailbox.poll(cx).map(|taken| {
            Some(match taken? {
                Taken::Item(rumor, _) => Ok(rumor),
                Taken::Missed(rumors) => Err(Lagged(rumors)),
            })
        })
    }
}

impl Stream for Rumors {
    type Item = Result<Rumor, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}
