//! How plain values lie in a control frame: little endian, counts before lists, one number before a choice.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::error::{EncodeError, WireError};
use crate::limits::MAX_TEXT_BYTES;

/// A value that can be written and read. Reading is total and allocates no more than what is left to read
/// accounts for.
pub(super) trait Value: Sized {
    /// No encoding is shorter: what a count is held against before memory is taken.
    const MIN_BYTES: usize;
    fn put(&self, w: &mut Writer<'_>);
    /// `field` is for the error's text.
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError>;
}

/// Appends values; keeps the first thing that went wrong.
pub(super) struct Writer<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) error: Option<EncodeError>,
}

impl Writer<'_> {
    /// Writes the count of a list, which must not exceed `max`.
    pub(super) fn count(&mut self, field: &'static str, count: usize, max: usize) {
        if count > max {
            self.error.get_or_insert(EncodeError::TooMany { field, count, max });
        }
        (count as u32).put(self);
    }

    /// The same in two bytes, for lists that are never long.
    pub(super) fn short_count(&mut self, field: &'static str, count: usize, max: usize) {
        if count > max.min(u16::MAX.into()) {
            self.error.get_or_insert(EncodeError::TooMany { field, count, max });
        }
        (count as u16).put(self);
    }
}

/// What is left to read of one body.
pub(super) struct Reader<'a> {
    pub(super) left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let (head, tail) = self.left.split_first_chunk().ok_or(WireError::Truncated { field })?;
        self.left = tail;
        Ok(*head)
    }

    fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.left.split_at_checked(len).ok_or(WireError::Truncated { field })?;
        self.left = tail;
        Ok(head)
    }

    /// Reads `count` values, unless they cannot possibly be there.
    pub(super) fn list<T: Value>(&mut self, count: usize, field: &'static str) -> Result<Vec<T>, WireError> {
        if count > self.left.len() / T::MIN_BYTES {
            return Err(WireError::Truncated { field });
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(T::get(self, field)?);
        }
        Ok(items)
    }

    /// Reads a counted list of at most `max` values.
    pub(super) fn list_up_to<T: Value>(
        &mut self,
        max: usize,
        field: &'static str,
    ) -> Result<Vec<T>, WireError> {
        let count = u32::get(self, field)? as usize;
        if count > max {
            return Err(WireError::TooMany { field, count, max });
        }
        self.list(count, field)
    }
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Value for $int {
            const MIN_BYTES: usize = size_of::<$int>();
            fn put(&self, w: &mut Writer<'_>) {
                w.out.extend_from_slice(&self.to_le_bytes());
            }
            fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
                Ok(<$int>::from_le_bytes(r.array(field)?))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, u128);

impl<const N: usize> Value for [u8; N] {
    const MIN_BYTES: usize = N;
    fn put(&self, w: &mut Writer<'_>) {
        w.out.extend_from_slice(self);
    }
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        r.array(field)
    }
}

impl Value for bool {
    const MIN_BYTES: usize = 1;
    fn put(&self, w: &mut Writer<'_>) {
        u8::from(*self).put(w);
    }
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        match u8::get(r, field)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(WireError::UnknownNumber { field, value }),
        }
    }
}

/// Texts are for people: a long one is cut, not refused, by whoever sends it.
impl Value for String {
    const MIN_BYTES: usize = 2;
    fn put(&self, w: &mut Writer<'_>) {
        const { assert!(MAX_TEXT_BYTES <= u16::MAX as usize) };
        let text = &self[..self.floor_char_boundary(MAX_TEXT_BYTES)];
        (text.len() as u16).put(w);
        w.out.extend_from_slice(text.as_bytes());
    }
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        let len = usize::from(u16::get(r, field)?);
        if len > MAX_TEXT_BYTES {
            return Err(WireError::TextTooLong { field, len });
        }
        let text = std::str::from_utf8(r.bytes(len, field)?);
        text.map(str::to_owned).map_err(|_| WireError::TextNotUtf8 { field })
    }
}

impl<T: Value> Value for Option<T> {
    const MIN_BYTES: usize = 1;
    fn put(&self, w: &mut Writer<'_>) {
        self.is_some().put(w);
        if let Some(value) = self {
            value.put(w);
        }
    }
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        if bool::get(r, field)? { T::get(r, field).map(Some) } else { Ok(None) }
    }
}

/// How many there may be follows from the length of a frame alone.
impl<T: Value> Value for Vec<T> {
    const MIN_BYTES: usize = 4;
    fn put(&self, w: &mut Writer<'_>) {
        w.count("list entries", self.len(), u32::MAX as usize);
        for item in self {
            item.put(w);
        }
    }
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        let count = u32::get(r, field)? as usize;
        r.list(count, field)
    }
}

impl<T: Value> Value for Box<T> {
    const MIN_BYTES: usize = T::MIN_BYTES;
    fn put(&self, w: &mut Writer<'_>) {
        (**self).put(w);
    }
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        T::get(r, field).map(Box::new)
    }
}

impl<T: Value> Value for Arc<T> {
    const MIN_BYTES: usize = T::MIN_BYTES;
    fn put(&self, w: &mut Writer<'_>) {
        (**self).put(w);
    }
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        T::get(r, field).map(Arc::new)
    }
}

impl<A: Value, B: Value> Value for (A, B) {
    const MIN_BYTES: usize = A::MIN_BYTES + B::MIN_BYTES;
    fn put(&self, w: &mut Writer<'_>) {
        self.0.put(w);
        self.1.put(w);
    }
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        Ok((A::get(r, field)?, B::get(r, field)?))
    }
}

impl Value for IpAddr {
    const MIN_BYTES: usize = 1 + 4;
    fn put(&self, w: &mut Writer<'_>) {
        match self {
            IpAddr::V4(ip) => (4u8, ip.octets()).put(w),
            IpAddr::V6(ip) => (6u8, ip.octets()).put(w),
        }
    }
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        match u8::get(r, field)? {
            4 => Ok(IpAddr::from(r.array::<4>(field)?)),
            6 => Ok(IpAddr::from(r.array::<16>(field)?)),
            value => Err(WireError::UnknownNumber { field, value }),
        }
    }
}

/// Flow label and scope of an IPv6 address mean something on its own machine only: they do not travel.
impl Value for SocketAddr {
    const MIN_BYTES: usize = IpAddr::MIN_BYTES + 2;
    fn put(&self, w: &mut Writer<'_>) {
        (self.ip(), self.port()).put(w);
    }
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        <(IpAddr, u16)>::get(r, field).map(SocketAddr::from)
    }
}
