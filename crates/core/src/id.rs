//! Who is who: names, node ids, lives.

use alloc::sync::Arc;
use core::fmt;

/// The longest name of a node, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The name of a node, as people write it: 1 to [`NAME_BYTES_MAX`] bytes, without white space,
/// control characters or commas.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "alloc::string::String"))]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The text is empty.
    Empty,
    /// The text is longer than [`NAME_BYTES_MAX`] bytes.
    TooLong,
    /// The text has a character that no name may have.
    Character(char),
}

impl Name {
    /// Checks `text` and makes a name of it.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        match text.chars().find(|c| c.is_whitespace() || c.is_control() || *c == ',') {
            Some(c) => Err(NameError::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the node with this name.
    pub fn id(&self) -> NodeId {
        NodeId::from_name(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(feature = "serde")]
impl TryFrom<alloc::string::String> for Name {
    type Error = NameError;

    fn try_from(text: alloc::string::String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name cannot be empty"),
            Self::TooLong => write!(f, "a name has at most {NAME_BYTES_MAX} bytes"),
            Self::Character(c) => write!(f, "a name cannot contain {c:?}"),
        }
    }
}

impl core::error::Error for NameError {}

/// A node: the 64-bit hash of its name, the same on every machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeId(u64);

impl NodeId {
    /// The id of the node called `name`.
    pub fn from_name(name: &str) -> Self {
        Self(hash64(name.as_bytes()))
    }

    /// The id with this value, as read from a frame.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The value that goes into a frame.
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:016x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:016x}", self.0)
    }
}

/// One run of a process: a random number made at its start (rule V7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Life(pub u128);

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "life-{:08x}", self.0 >> 96)
    }
}

/// A hash that is the same everywhere and for ever: FNV-1a (64 bit), finished by the mixer of
/// `SplitMix64` so that every bit of the result depends on every bit of the text.
pub fn hash64(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    mix64(fnv)
}

/// The finishing mixer of `SplitMix64` (Steele, Lea, Flood 2014): a bijection on 64 bits.
pub const fn mix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(Name::new("").unwrap_err(), NameError::Empty);
        assert_eq!(Name::new("a b").unwrap_err(), NameError::Character(' '));
        assert_eq!(Name::new("a,b").unwrap_err(), NameError::Character(','));
        assert_eq!(Name::new(&"x".repeat(65)).unwrap_err(), NameError::TooLong);
        assert_eq!(Name::new("p1").unwrap().as_str(), "p1");
    }

    #[test]
    fn ids_never_change() {
        // Written down: a change of the hash would make old and new nodes strangers.
        assert_eq!(NodeId::from_name("p1").raw(), hash64(b"p1"));
        assert_eq!(hash64(b""), mix64(0xcbf2_9ce4_8422_2325));
        assert_ne!(NodeId::from_name("p1"), NodeId::from_name("p2"));
    }
}
