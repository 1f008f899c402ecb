//! The memory of a shared state.

use std::sync::Arc;

use crate::limits::{MAX_STATE_BYTES, MAX_STATE_NAMES_BYTES, MAX_TENSORS, MAX_TEXT_BYTES};
use crate::mem::Buffers;
use crate::types::TensorKey;

/// Why tensors cannot be one shared state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorsError {
    #[error("two tensors are named {name:?}")]
    Duplicate { name: String },
    #[error("{count} tensors; {MAX_TENSORS} are the most")]
    TooMany { count: usize },
    #[error("the name of tensor {index} has {len} bytes; {MAX_TEXT_BYTES} are the most")]
    LongName { index: usize, len: usize },
    #[error("the names have {len} bytes together; {MAX_STATE_NAMES_BYTES} are the most")]
    LongNames { len: usize },
    #[error("tensor {key} does not fit its memory of {len} bytes")]
    Length { key: TensorKey, len: usize },
    #[error("tensor {key} is received where it lies, so its memory must be one buffer, not two")]
    NotInPlace { key: TensorKey },
    #[error("tensors {a} and {b} overlap in memory without being the same")]
    Overlap { a: TensorKey, b: TensorKey },
    #[error("the tensors have more than {MAX_STATE_BYTES} bytes together")]
    TooLarge,
}

/// The tensors of one call, in the order of their names: everywhere a tensor is named by its index in it.
#[derive(Debug)]
pub struct Tensors {
    keys: Arc<[TensorKey]>,
    memory: Vec<Buffers>,
    /// Where each tensor stood in the list the caller gave.
    given: Vec<usize>,
    /// Pairs with the same memory, as tied weights have.
    tied: Vec<(usize, usize)>,
}

impl Tensors {
    pub fn new(given: Vec<(TensorKey, Buffers)>) -> Result<Tensors, TensorsError> {
        check(&given)?;
        let mut sorted: Vec<(usize, (TensorKey, Buffers))> = given.into_iter().enumerate().collect();
        sorted.sort_by(|(_, (a, _)), (_, (b, _))| a.name.cmp(&b.name));
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].1.0.name == pair[1].1.0.name) {
            return Err(TensorsError::Duplicate { name: pair[0].1.0.name.clone() });
        }
        let given = sorted.iter().map(|(at, _)| *at).collect();
        let (keys, memory): (Vec<TensorKey>, Vec<Buffers>) = sorted.into_iter().map(|(_, t)| t).unzip();
        let tied = tied(&keys, &memory)?;
        Ok(Tensors { keys: keys.into(), memory, given, tied })
    }

    /// In the order of names.
    pub fn keys(&self) -> &Arc<[TensorKey]> {
        &self.keys
    }

    /// Pairs with the same memory: whatever is received must be the same for both.
    pub fn tied(&self) -> &[(usize, usize)] {
        &self.tied
    }

    pub fn len(&self) -> usize {
        self.memory.len()
    }

    pub fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    /// Bytes of this tensor.
    pub fn size_bytes(&self, tensor: usize) -> usize {
        self.memory[tensor].len()
    }

    pub fn read(&self, tensor: usize, at: usize, len: usize) -> &[u8] {
        self.memory[tensor].result(at, len)
    }

    pub fn write(&mut self, tensor: usize, at: usize, len: usize) -> &mut [u8] {
        self.memory[tensor].result_mut(at, len)
    }

    /// What stands in the order of names, in the order the caller gave.
    pub fn in_given_order<T: Clone>(&self, sorted: &[T]) -> Vec<T> {
        let mut by_given: Vec<(usize, &T)> = self.given.iter().copied().zip(sorted).collect();
        by_given.sort_by_key(|(given, _)| *given);
        by_given.into_iter().map(|(_, value)| value.clone()).collect()
    }
}

fn tied(keys: &[TensorKey], memory: &[Buffers]) -> Result<Vec<(usize, usize)>, TensorsError> {
    let mut places: Vec<(usize, usize, usize)> = memory
        .iter()
        .enumerate()
        .filter(|(_, memory)| !memory.is_empty())
        .map(|(tensor, memory)| (memory.addresses().start, memory.addresses().end, tensor))
        .collect();
    places.sort_unstable();
    let mut tied = Vec::new();
    for pair in places.windows(2) {
        let [(start, end, a), (next, next_end, b)] = [pair[0], pair[1]];
        if (start, end) == (next, next_end) {
            tied.push((a, b));
        } else if next < end {
            return Err(TensorsError::Overlap { a: keys[a].clone(), b: keys[b].clone() });
        }
    }
    Ok(tied)
}

fn check(given: &[(TensorKey, Buffers)]) -> Result<(), TensorsError> {
    if given.len() > MAX_TENSORS {
        return Err(TensorsError::TooMany { count: given.len() });
    }
    if let Some((index, (key, _))) =
        given.iter().enumerate().find(|(_, (k, _))| k.name.len() > MAX_TEXT_BYTES)
    {
        return Err(TensorsError::LongName { index, len: key.name.len() });
    }
    let names = given.iter().map(|(key, _)| key.name.len()).sum();
    if names > MAX_STATE_NAMES_BYTES {
        return Err(TensorsError::LongNames { len: names });
    }
    for (key, memory) in given {
        if !memory.in_place() {
            return Err(TensorsError::NotInPlace { key: key.clone() });
        }
        let size = key.count.checked_mul(key.dtype.size_bytes() as u64);
        if size != Some(memory.len() as u64) {
            return Err(TensorsError::Length { key: key.clone(), len: memory.len() });
        }
    }
    // Each is in memory and there are few: the sum does not overflow.
    let size: u64 = given.iter().map(|(_, memory)| memory.len() as u64).sum();
    if size > MAX_STATE_BYTES { Err(TensorsError::TooLarge) } else { Ok(()) }
}
