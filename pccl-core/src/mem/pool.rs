//! Memory that is needed again and again: kept for the next user, up to a limit.

/// Blocks of bytes in stock. What is given back beyond the limit goes to the allocator.
#[derive(Debug)]
pub struct Pool {
    stock: Vec<Vec<u8>>,
    stock_bytes: usize,
    limit_bytes: usize,
}

impl Pool {
    pub fn new(limit_bytes: usize) -> Pool {
        Pool { stock: Vec::new(), stock_bytes: 0, limit_bytes }
    }

    /// A block of at least `len` bytes, of whatever content.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let mut block = self.reuse();
        if block.len() < len {
            block.resize(len, 0);
        }
        block
    }

    /// A block that holds a copy of `bytes`, and nothing else.
    pub fn take_copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut block = self.reuse();
        block.clear();
        block.extend_from_slice(bytes);
        block
    }

    pub fn give(&mut self, block: Vec<u8>) {
        if self.stock_bytes + block.capacity() <= self.limit_bytes {
            self.stock_bytes += block.capacity();
            self.stock.push(block);
        }
    }

    fn reuse(&mut self) -> Vec<u8> {
        let block = self.stock.pop().unwrap_or_default();
        self.stock_bytes -= block.capacity();
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_given_back_is_the_next_one_taken() {
        let mut pool = Pool::new(1 << 10);
        let block = pool.take(100);
        let address = block.as_ptr();
        pool.give(block);
        let again = pool.take(50);
        assert_eq!(again.as_ptr(), address);
    }

    #[test]
    fn stock_stays_within_its_limit() {
        let mut pool = Pool::new(250);
        for block in [vec![0; 100], vec![0; 100], vec![0; 100]] {
            pool.give(block);
        }
        assert_eq!((pool.stock.len(), pool.stock_bytes), (2, 200));
        pool.take(10);
        assert_eq!((pool.stock.len(), pool.stock_bytes), (1, 100));
    }

    #[test]
    fn a_copy_is_the_bytes_and_nothing_else() {
        let mut pool = Pool::new(1 << 10);
        pool.give(vec![7; 64]);
        assert_eq!(pool.take_copy(&[1, 2, 3]), [1, 2, 3]);
    }
}
