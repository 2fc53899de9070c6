//! A value that many states have in common, with its hash.

use roundelay_core::trace::TraceHasher;
use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

/// A shared value that is hashed once, when it is made: comparing and hashing states is what a
/// checker does all day.
pub(crate) struct Shared<T>(Arc<(u64, T)>);

impl<T: Hash> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new((digest(&value), value)))
    }
}

impl<T: Hash + PartialEq> Shared<T> {
    /// This value, shared if it is the same.
    pub(crate) fn with(&self, value: T) -> Self {
        if value == **self { self.clone() } else { Self::new(value) }
    }
}

impl<T> Shared<T> {
    /// The hash of the value.
    pub(crate) fn digest(&self) -> u64 {
        self.0.0
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.digest());
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || *self.0 == *other.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.1.fmt(f)
    }
}

/// The hash of a value.
pub(crate) fn digest(value: &impl Hash) -> u64 {
    let mut hasher = TraceHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}
