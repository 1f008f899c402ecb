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

    /// A block of `len` bytes, of whatever content. It takes little more memory than that.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let mut block = self.stock.pop().unwrap_or_default();
        self.stock_bytes -= block.capacity();
        if !(len..=len + len / 8).contains(&block.capacity()) {
            block = Vec::with_capacity(len);
        }
        block.resize(len, 0);
        block
    }

    pub fn give(&mut self, block: Vec<u8>) {
        if self.stock_bytes + block.capacity() <= self.limit_bytes {
            self.stock_bytes += block.capacity();
            self.stock.push(block);
        }
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
        let again = pool.take(90);
        assert_eq!((again.as_ptr(), again.len()), (address, 90));
    }

    #[test]
    fn stock_stays_within_its_limit() {
        let mut pool = Pool::new(250);
        for block in [vec![0; 100], vec![0; 100], vec![0; 100]] {
            pool.give(block);
        }
        assert_eq!((pool.stock.len(), pool.stock_bytes), (2, 200));
        assert_eq!(pool.take(10).capacity(), 10);
        assert_eq!((pool.stock.len(), pool.stock_bytes), (1, 100));
    }
}
