//! TCP proxies before the data ports of peers: what crosses them can be cut, held back, damaged, refused or counted.

mod crew;
mod dice;
mod walk;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use pccl_core::api::Communicator;
use pccl_core::types::PeerId;
use pccl_core::wire::hello::Hello;

pub use crew::Crew;
pub use dice::Seed;
pub use walk::Part;
use walk::Walk;

use crate::harness::reserved;

/// Where something is to happen, once.
#[derive(Clone, Copy, Debug)]
pub enum At {
    /// At a byte of the part that comes after so many of its kind.
    Part(Part, usize),
    /// After so many bytes of frames, on whatever connection that is.
    Byte(u64),
}

#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Flips the bit of this number, counted around from the place's first byte.
    Flip(usize),
    /// Ends the connection before this byte, counted as above.
    Cut(usize),
}

/// What happened, and on which way.
#[derive(Clone, Copy, Debug)]
pub struct Fired {
    pub from: PeerId,
    pub to: PeerId,
    pub part: Part,
}

type Pair = (PeerId, PeerId);

/// May hold back one way from now on, between peers by the numbers of their proxies.
type Alarm = Box<dyn FnOnce() -> Option<(usize, usize)> + Send>;

#[derive(Default)]
struct State {
    /// The peer behind each proxy, once somebody has said its name.
    peers: Vec<Option<PeerId>>,
    trouble: Option<(At, Act, Option<Pair>)>,
    fired: Option<Fired>,
    alarm: Option<(u64, Alarm)>,
    refused: Option<(usize, usize)>,
    refusals: usize,
    held: Option<Pair>,
    /// Frames with payload that had to wait.
    waited: usize,
    /// Bytes of frames since the last order.
    passed: u64,
    /// Payload by sender and receiver.
    payload: BTreeMap<Pair, u64>,
}

/// All proxies of a run.
#[derive(Clone, Default)]
pub struct Wire(Arc<(Mutex<State>, Condvar)>);

/// Whose bytes a thread passes on.
#[derive(Clone, Copy)]
struct Way {
    from: PeerId,
    to: PeerId,
}

/// Where a peer behind a proxy listens, and the port it announces.
pub type Place = (SocketAddr, u16);

/// A peer of the master's run, at this place.
pub fn connect_at(master: &str, (listen, port): Place) -> Communicator {
    let builder = Communicator::builder(master).listen(listen).announce("127.0.0.1", port).pool(2);
    let peer = builder.build().unwrap();
    peer.connect().unwrap();
    peer
}

/// Orders.
impl Wire {
    /// A place for a peer, with a proxy before it.
    pub fn place(&self) -> Place {
        let listen = reserved();
        (listen, self.open(listen).port())
    }

    /// A proxy before this data port. Its threads end with the process, and with the connections.
    pub fn open(&self, to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let number = {
            let mut state = self.lock();
            state.peers.push(None);
            state.peers.len() - 1
        };
        let wire = self.clone();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (wire, near) = (wire.clone(), near.unwrap());
                std::thread::spawn(move || wire.serve(number, near, to));
            }
        });
        address
    }

    /// What is to happen next, on the connections of `between` if that is said.
    pub fn arm(&self, at: At, act: Act, between: Option<Pair>) {
        let mut state = self.lock();
        state.trouble = Some((at, act, between));
        state.fired = None;
        state.passed = 0;
    }

    /// Whether and where it happened.
    pub fn fired(&self) -> Option<Fired> {
        self.lock().fired
    }

    /// Calls this when so many bytes of frames have passed from now on. Then nothing passes any more from the one to the other
    /// of the proxies it gives.
    pub fn at_byte(&self, passed: u64, alarm: impl FnOnce() -> Option<(usize, usize)> + Send + 'static) {
        let mut state = self.lock();
        state.alarm = Some((passed, Box::new(alarm)));
        state.passed = 0;
    }

    /// Bytes of frames since the last order.
    pub fn passed(&self) -> u64 {
        self.lock().passed
    }

    /// No connection between the peers behind these proxies; they are opened, and peers join, one after the other.
    pub fn refuse(&self, a: usize, b: usize) {
        self.lock().refused = Some((a, b));
    }

    pub fn refusals(&self) -> usize {
        self.lock().refusals
    }

    /// From here on nothing passes from one to the other, until `release`.
    pub fn hold(&self, from: PeerId, to: PeerId) {
        self.lock().held = Some((from, to));
    }

    /// How many connections had to wait in the middle of a frame.
    pub fn release(&self) -> usize {
        let mut state = self.lock();
        state.held = None;
        self.0.1.notify_all();
        std::mem::take(&mut state.waited)
    }

    pub fn peer(&self, number: usize) -> PeerId {
        self.lock().peers[number].expect("somebody has dialled it")
    }

    /// Payload that has passed between the two, either way.
    pub fn payload(&self, a: PeerId, b: PeerId) -> u64 {
        let state = self.lock();
        [(a, b), (b, a)].iter().filter_map(|way| state.payload.get(way)).sum()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }
}

/// Service.
impl Wire {
    /// One connection, from the dialler's hello on.
    fn serve(&self, number: usize, mut near: TcpStream, to: SocketAddr) {
        let mut hello = [0; pccl_core::wire::hello::HELLO_BYTES];
        if near.read_exact(&mut hello).is_err() {
            return;
        }
        let Ok(Hello::Data { from, to: called, .. }) = Hello::decode(&hello) else { return };
        if self.meets_refused(number, from, called) {
            return;
        }
        let Ok(far) = TcpStream::connect(to) else { return };
        for stream in [&near, &far] {
            stream.set_nodelay(true).unwrap();
        }
        let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let (there, back) = (self.clone(), Way { from: called, to: from });
        let wire = self.clone();
        std::thread::spawn(move || wire.pass(back, Part::Answer, Vec::new(), &far_too, &near_too));
        there.pass(Way { from, to: called }, Part::Hello, hello.to_vec(), &near, &far);
    }

    /// Notes who is behind the proxy; true if these two are not to meet.
    fn meets_refused(&self, number: usize, from: PeerId, called: PeerId) -> bool {
        let mut state = self.lock();
        state.peers[number] = Some(called);
        // Whoever was never called yet is the one that joined last.
        let dialler = state.peers.iter().position(|peer| *peer == Some(from));
        let dialler = dialler.unwrap_or(state.peers.len() - 1);
        let refused = state.refused.is_some_and(|(a, b)| [(a, b), (b, a)].contains(&(dialler, number)));
        state.refusals += usize::from(refused);
        refused
    }

    fn pass(&self, way: Way, first: Part, mut bytes: Vec<u8>, mut from: &TcpStream, mut to: &TcpStream) {
        let mut walk = Walk::from(first);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let mut done = 0;
            while let Some((part, len)) = walk.next(&bytes[done..]) {
                if let Some(cut) = self.judge(way, part, &mut bytes[done..done + len]) {
                    // What came before it still arrives.
                    let _ = to.write_all(&bytes[..done + cut]);
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = to.shutdown(Shutdown::Both);
                    return;
                }
                done += len;
            }
            if to.write_all(&bytes[..done]).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            bytes.drain(..done);
            match from.read(&mut buffer) {
                Ok(read) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
                _ => {
                    let _ = to.write_all(&bytes);
                    let _ = to.shutdown(Shutdown::Write);
                    return;
                }
            }
        }
    }

    /// Counts these bytes, and lets happen to them what was ordered; the position of a cut.
    fn judge(&self, way: Way, part: Part, bytes: &mut [u8]) -> Option<usize> {
        let mut state = self.lock();
        if state.held == Some((way.from, way.to)) {
            state.waited += usize::from(!matches!(part, Part::Header(kind) if kind.is_grant()));
            state = self.0.1.wait_while(state, |state| state.held == Some((way.from, way.to))).unwrap();
        }
        let before = state.passed;
        let of_frame = !matches!(part, Part::Hello | Part::Answer);
        if of_frame {
            state.passed += bytes.len() as u64;
        }
        if matches!(part, Part::Payload(_)) {
            *state.payload.entry((way.from, way.to)).or_default() += bytes.len() as u64;
        }
        if let Some((_, alarm)) = state.alarm.take_if(|(at, _)| *at <= before + bytes.len() as u64) {
            let names = |(from, to): (usize, usize)| state.peers[from].zip(state.peers[to]);
            state.held = alarm().and_then(names);
        }
        let (at, act, between) = state.trouble?;
        if between.is_some_and(|(a, b)| ![(a, b), (b, a)].contains(&(way.from, way.to))) {
            return None;
        }
        let first = match at {
            At::Part(wanted, _) if wanted != part => return None,
            At::Part(wanted, skip) if skip > 0 => {
                state.trouble = Some((At::Part(wanted, skip - 1), act, between));
                return None;
            }
            At::Part(..) => 0,
            At::Byte(at) if of_frame && at < before + bytes.len() as u64 => {
                at.saturating_sub(before) as usize
            }
            At::Byte(_) => return None,
        };
        state.trouble = None;
        state.fired = Some(Fired { from: way.from, to: way.to, part });
        match act {
            Act::Flip(bit) => {
                let bit = (first * 8 + bit) % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                None
            }
            Act::Cut(byte) => Some((first + byte) % bytes.len()),
        }
    }
}
