//! The baseline: what the same bytes cost through plain blocking sockets, with nothing added, checked or agreed on.
//!
//! Every process sends to its right neighbour, and takes in from its left one, a thread for each connection and
//! direction. Half of what arrives goes where an all-reduce would land results, half into a small scratch, as
//! contributions do.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};

/// What one read takes at most; in the cache, as the library's.
const SCRATCH_BYTES: usize = 256 << 10;
const PAGE_BYTES: usize = 4096;

/// A listener for the left neighbour, and where it finds it.
pub struct Door {
    listener: TcpListener,
    pub address: Ipv4Addr,
    pub port: u16,
}

impl Door {
    pub fn open(address: Ipv4Addr) -> io::Result<Door> {
        let listener = TcpListener::bind((address, 0))?;
        let port = listener.local_addr()?.port();
        Ok(Door { listener, address, port })
    }

    /// Connects to the right neighbour and takes the connections of the left one. Where both are the same peer, the
    /// connections carry both directions, as those of a pool do, and rank 0 makes them.
    pub fn connect(self, right: SocketAddr, like: &Like, rank: usize, world: usize) -> io::Result<Sockets> {
        let (done, dones) = mpsc::channel();
        let mut sockets = Sockets { threads: Vec::new(), dones };
        let pair = world == 2;
        // The listen queue of the neighbour takes them before it accepts.
        let mut outward = Vec::new();
        let mut inward = Vec::new();
        for _ in 0..like.connections {
            if !pair || rank == 0 {
                outward.push(like.prepared(TcpStream::connect(right)?)?);
            }
        }
        for _ in 0..like.connections {
            if !pair || rank == 1 {
                inward.push(like.prepared(self.listener.accept()?.0)?);
            }
        }
        if pair {
            let both = if rank == 0 { &outward } else { &inward };
            let other = both.iter().map(TcpStream::try_clone).collect::<io::Result<Vec<_>>>()?;
            if rank == 0 { inward = other } else { outward = other }
        }
        outward.into_iter().for_each(|stream| sockets.spawn(stream, send, done.clone()));
        inward.into_iter().for_each(|stream| sockets.spawn(stream, receive, done.clone()));
        Ok(sockets)
    }
}

/// What the connections have in common with those they are compared to.
pub struct Like {
    /// To each neighbour.
    pub connections: u32,
    /// Congestion control; empty: the host's.
    pub congestion: String,
}

impl Like {
    fn prepared(&self, stream: TcpStream) -> io::Result<TcpStream> {
        stream.set_nodelay(true)?;
        #[cfg(target_os = "linux")]
        if !self.congestion.is_empty() {
            socket2::SockRef::from(&stream).set_tcp_congestion(self.congestion.as_bytes())?;
        }
        Ok(stream)
    }
}

/// Threads that wait for the word to move bytes. They end when this is dropped.
pub struct Sockets {
    threads: Vec<Sender<usize>>,
    dones: Receiver<io::Result<()>>,
}

type Mover = fn(&mut TcpStream, &mut Vec<u8>, usize) -> io::Result<()>;

impl Sockets {
    fn spawn(&mut self, mut stream: TcpStream, mover: Mover, done: Sender<io::Result<()>>) {
        let (word, words) = mpsc::channel();
        self.threads.push(word);
        std::thread::spawn(move || {
            let mut buffer = Vec::new();
            for bytes in words {
                if done.send(mover(&mut stream, &mut buffer, bytes)).is_err() {
                    break;
                }
            }
        });
    }

    /// Sends this many bytes, divided among the connections, and takes in as many.
    pub fn exchange(&self, bytes: u64) -> io::Result<()> {
        let connections = self.threads.len() / 2;
        for (i, thread) in self.threads.iter().enumerate() {
            let share = |i: usize| (bytes as usize * i) / connections;
            let i = i % connections;
            // A thread that is gone has said why.
            let _ = thread.send(share(i + 1) - share(i));
        }
        for _ in &self.threads {
            self.dones.recv().map_err(io::Error::other)??;
        }
        Ok(())
    }

    /// What the threads hold after an exchange of so many bytes.
    pub fn buffer_bytes(&self, bytes: u64) -> u64 {
        let scratch = self.threads.len() / 2 * SCRATCH_BYTES + self.threads.len() * PAGE_BYTES;
        bytes + bytes / 2 + scratch as u64
    }
}

/// So many bytes from the start of a page on. Where a copy's two ends lie nearly alike within their pages, as large
/// vectors and power-of-two streams do, some CPUs copy at half the speed.
fn paged(buffer: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    buffer.resize(bytes + PAGE_BYTES, 1);
    let skip = buffer.as_ptr().align_offset(PAGE_BYTES);
    &mut buffer[skip..skip + bytes]
}

fn send(stream: &mut TcpStream, buffer: &mut Vec<u8>, bytes: usize) -> io::Result<()> {
    stream.write_all(paged(buffer, bytes))
}

fn receive(stream: &mut TcpStream, buffer: &mut Vec<u8>, bytes: usize) -> io::Result<()> {
    let (scratch, landing) = paged(buffer, SCRATCH_BYTES + bytes / 2).split_at_mut(SCRATCH_BYTES);
    let mut left = bytes - landing.len();
    while left > 0 {
        let take = left.min(scratch.len());
        match stream.read(&mut scratch[..take])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => left -= n,
        }
    }
    stream.read_exact(landing)
}

/// Adds as many bytes as one process of an all-reduce adds: its own numbers and what lies in a scratch, into a third
/// place.
pub struct Add {
    own: Vec<f32>,
    sum: Vec<f32>,
    scratch: Vec<f32>,
}

impl Add {
    pub fn of(bytes: u64) -> Add {
        let count = (bytes / 4).max(1) as usize;
        Add { own: vec![1.0; count], sum: vec![0.0; count], scratch: vec![2.0; SCRATCH_BYTES / 4] }
    }

    pub fn run(&mut self) {
        let parts = self.sum.chunks_mut(self.scratch.len()).zip(self.own.chunks(self.scratch.len()));
        for (sum, own) in parts {
            for ((sum, own), other) in sum.iter_mut().zip(own).zip(&self.scratch) {
                *sum = own + other;
            }
            std::hint::black_box(&sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_move_any_number_of_bytes() {
        for world in [2, 3] {
            let doors: Vec<Door> = (0..world).map(|_| Door::open(Ipv4Addr::LOCALHOST).unwrap()).collect();
            let ports: Vec<u16> = doors.iter().map(|door| door.port).collect();
            std::thread::scope(|scope| {
                for (rank, door) in doors.into_iter().enumerate() {
                    let like = Like { connections: 2, congestion: String::new() };
                    let right = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[(rank + 1) % world]));
                    scope.spawn(move || {
                        let sockets = door.connect(right, &like, rank, world).unwrap();
                        for bytes in [0, 1, 7, 100_003, 3 << 20, 5] {
                            sockets.exchange(bytes).unwrap();
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn a_neighbour_that_is_gone_is_an_error_not_a_wait() {
        let door = Door::open(Ipv4Addr::LOCALHOST).unwrap();
        let right = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let like = Like { connections: 1, congestion: String::new() };
        let at = right.local_addr().unwrap();
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, door.port)).unwrap());
        let sockets = door.connect(at, &like, 0, 3).unwrap();
        assert!(sockets.exchange(1 << 10).is_err());
    }

    #[test]
    fn the_add_is_one() {
        let mut add = Add::of(1 << 20);
        add.run();
        assert!(add.sum.iter().all(|&x| x == 3.0));
    }
}
