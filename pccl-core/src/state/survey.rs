//! The tree of hashes over a shared state: blocks, tensors, all of them. `docs/PROTOCOL.md` has its definition.

use std::sync::{Mutex, PoisonError};

use super::Tensors;
use crate::kernel::hash::{self, Hasher};
use crate::types::{Digest, Offer, SyncStrategy, TensorKey};

/// Blocks a thread takes at once: 4 MiB of a large tensor, and few enough visits to the queue where tensors are small.
const BLOCKS_AT_ONCE: usize = 16;

/// What a peer's tensors held when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    block_bytes: usize,
    tensors: u32,
    size_bytes: u64,
    keys: Digest,
    /// Of every block of every tensor, one tensor after the other.
    blocks: Vec<Digest>,
    /// The first block of each tensor, and at the end the number of all.
    first: Vec<usize>,
    digests: Vec<Digest>,
    content: Digest,
    full: Digest,
}

/// Blocks of a tensor of so many bytes; an empty one has none.
fn blocks_of(size_bytes: usize, block_bytes: usize) -> usize {
    size_bytes.div_ceil(block_bytes)
}

/// A tensor's digest, from those of its blocks.
pub fn tensor_digest(size_bytes: usize, block_bytes: usize, blocks: &[Digest]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.add(&(block_bytes as u64).to_le_bytes()).add(&(size_bytes as u64).to_le_bytes());
    blocks.iter().for_each(|block| {
        hasher.add(&block.0);
    });
    hasher.digest()
}

/// The digest of those tensors that must not differ, and that of all.
pub fn combined(keys: &[TensorKey], digests: &[Digest]) -> (Digest, Digest) {
    let (mut content, mut full) = (Hasher::default(), Hasher::default());
    for (key, digest) in keys.iter().zip(digests) {
        full.add(&digest.0);
        if !key.may_differ {
            content.add(&digest.0);
        }
    }
    (content.digest(), full.digest())
}

fn digest_of_keys(keys: &[TensorKey]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.add(&(keys.len() as u32).to_le_bytes());
    for key in keys {
        hasher.add(&(key.name.len() as u32).to_le_bytes()).add(key.name.as_bytes());
        hasher.add(&[key.dtype as u8]).add(&key.count.to_le_bytes()).add(&[u8::from(key.may_differ)]);
    }
    hasher.digest()
}

impl Tensors {
    /// Hashes everything, in this thread and in up to `threads` − 1 more, which are gone when it returns.
    pub fn survey(&self, block_bytes: usize, threads: usize) -> Survey {
        self.survey_by(block_bytes, threads).0
    }

    /// The same, and how many threads took part.
    pub(super) fn survey_by(&self, block_bytes: usize, threads: usize) -> (Survey, usize) {
        assert!(block_bytes > 0, "a block holds at least a byte");
        let mut first = Vec::with_capacity(self.len() + 1);
        let mut count = 0;
        for tensor in 0..self.len() {
            first.push(count);
            count += blocks_of(self.size_bytes(tensor), block_bytes);
        }
        first.push(count);
        let mut survey = Survey {
            block_bytes,
            tensors: self.len() as u32,
            size_bytes: (0..self.len()).map(|tensor| self.size_bytes(tensor) as u64).sum(),
            keys: digest_of_keys(self.keys()),
            blocks: vec![Digest::default(); count],
            digests: vec![Digest::default(); self.len()],
            first,
            content: Digest::default(),
            full: Digest::default(),
        };
        let threads = survey.hash_blocks(self, threads);
        (0..self.len()).for_each(|tensor| survey.sum_tensor(self, tensor));
        survey.sum_all(self);
        (survey, threads)
    }
}

impl Survey {
    fn hash_blocks(&mut self, tensors: &Tensors, threads: usize) -> usize {
        let (first, block_bytes) = (&self.first, self.block_bytes);
        let units = self.blocks.chunks_mut(BLOCKS_AT_ONCE).enumerate();
        let helpers = threads.min(units.len()).saturating_sub(1);
        let queue = Mutex::new(units);
        let work = || {
            loop {
                // A panic elsewhere leaves the queue whole, and ends the whole survey when its thread is joined.
                let taken = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((unit, digests)) = taken else { return };
                hash_unit(tensors, first, block_bytes, unit * BLOCKS_AT_ONCE, digests);
            }
        };
        std::thread::scope(|scope| {
            let begin = || std::thread::Builder::new().name("pccl-hash".into()).spawn_scoped(scope, work);
            // Where the system gives no more threads, those there are do it all.
            let begun = (0..helpers).map_while(|_| begin().ok()).count();
            work();
            begun + 1
        })
    }

    fn sum_tensor(&mut self, tensors: &Tensors, tensor: usize) {
        let blocks = &self.blocks[self.first[tensor]..self.first[tensor + 1]];
        self.digests[tensor] = tensor_digest(tensors.size_bytes(tensor), self.block_bytes, blocks);
    }

    /// Follows what a transfer has written into one tensor: the digests of these blocks, made anew where they are not
    /// given, and the tensor's. `sum_all` is due afterwards.
    pub fn follow(
        &mut self,
        tensors: &Tensors,
        tensor: usize,
        written: impl IntoIterator<Item = (usize, Option<Digest>)>,
    ) {
        for (block, digest) in written {
            self.blocks[self.first[tensor] + block] =
                digest.unwrap_or_else(|| hash_block(tensors, self.block_bytes, tensor, block));
        }
        self.sum_tensor(tensors, tensor);
    }

    /// The digests over all tensors, from theirs.
    pub fn sum_all(&mut self, tensors: &Tensors) {
        (self.content, self.full) = combined(tensors.keys(), &self.digests);
    }

    /// What a peer with these tensors brings to a synchronization.
    pub fn offer(&self, revision: u64, strategy: SyncStrategy, left_behind: bool) -> Offer {
        Offer {
            revision,
            strategy,
            left_behind,
            tensors: self.tensors,
            size_bytes: self.size_bytes,
            keys: self.keys,
            content: self.content,
            full: self.full,
        }
    }

    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Of those that must not differ.
    pub fn content(&self) -> Digest {
        self.content
    }

    /// Of all tensors.
    pub fn full(&self) -> Digest {
        self.full
    }

    /// One for each tensor.
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// How many blocks this tensor has, if there is one with this index.
    pub fn blocks_in(&self, tensor: usize) -> Option<usize> {
        Some(self.first.get(tensor.checked_add(1)?)? - self.first[tensor])
    }

    /// Those of the blocks of one tensor.
    pub fn blocks(&self, tensor: usize) -> &[Digest] {
        &self.blocks[self.first[tensor]..self.first[tensor + 1]]
    }
}

fn hash_unit(tensors: &Tensors, first: &[usize], block_bytes: usize, from: usize, digests: &mut [Digest]) {
    // The last tensor that begins at or before the block: of several that begin there all but that one are empty.
    let mut tensor = first.partition_point(|at| *at <= from) - 1;
    for (at, digest) in (from..).zip(digests) {
        while first[tensor + 1] <= at {
            tensor += 1;
        }
        *digest = hash_block(tensors, block_bytes, tensor, at - first[tensor]);
    }
}

fn hash_block(tensors: &Tensors, block_bytes: usize, tensor: usize, block: usize) -> Digest {
    let at = block * block_bytes;
    hash::digest(tensors.read(tensor, at, block_bytes.min(tensors.size_bytes(tensor) - at)))
}
