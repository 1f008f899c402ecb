//! When a call has returned nobody touches its memory, although frames of the operation still arrive.

use std::sync::{Arc, Mutex};

use pccl_core::api::{
    Buffers, Communicator, DType, ErrorKind, OpDescriptor, ReduceOp, ScheduleChoice, Tag, inspect,
};

use crate::harness::{Process, master_with, reserved, tell, wait_for_world};
use crate::proxy::{Seed, Wire};

/// Bytes of each operation.
const LEN: usize = 8 << 20;
const TAG: Tag = Tag(3);
const POISON: u8 = 0xA5;

/// Pages of our own.
struct Pages(*mut u8);

impl Pages {
    fn new(value: u8) -> Pages {
        let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new pages, which nothing else refers to.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), LEN, rights, kind, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        let pages = Pages(base.cast());
        pages.bytes().fill(value);
        pages
    }

    #[allow(clippy::mut_from_ref)]
    fn bytes(&self) -> &mut [u8] {
        // SAFETY: the pages are ours and readable; no operation has them when a test looks at them.
        unsafe { std::slice::from_raw_parts_mut(self.0, LEN) }
    }

    /// Whoever touches them from here on is killed, or told so by the system.
    fn forbid(&self) {
        // SAFETY: whole pages of ours.
        assert_eq!(unsafe { libc::mprotect(self.0.cast(), LEN, libc::PROT_NONE) }, 0);
    }
}

fn all(bytes: &[u8], value: u8) -> bool {
    bytes.chunks(4096).all(|chunk| chunk == [value; 4096])
}

fn reduce(peer: &Communicator, send: &Pages, recv: &Pages) -> Result<u32, ErrorKind> {
    // SAFETY: the pages stay until the process ends, and are left alone until the call has returned.
    let buffers = unsafe { Buffers::new(send.0, recv.0, LEN) }.unwrap();
    let work =
        peer.all_reduce_buffers(buffers, OpDescriptor::plain(LEN as u64 / 8, DType::U64, ReduceOp::Max), TAG);
    work.unwrap().wait().map(|info| info.group_world_size).map_err(|error| error.kind)
}

fn peer(master: &str, listen: &str, port: &str) -> Communicator {
    let builder = Communicator::builder(master).listen(listen.parse().unwrap());
    let peer = builder.announce("127.0.0.1", port.parse().unwrap()).pool(2).build().unwrap();
    peer.connect().unwrap();
    peer
}

/// The peer whose memory it is. `told`: master, listening address, announced port, `in-place` or not, `forbid` or
/// `poison`.
pub fn returned_memory(told: &str) {
    let told: Vec<&str> = told.split(' ').collect();
    let peer = peer(told[0], told[1], told[2]);
    wait_for_world(&peer, 3);
    let (in_place, forbid) = (told[3] == "in-place", told[4] == "forbid");
    let mut left = Vec::new();
    let mut reduce_and_leave = || {
        let send = Pages::new(1);
        let recv = if in_place { Pages(send.0) } else { Pages::new(0) };
        let outcome = reduce(&peer, &send, &recv);
        match outcome {
            // The largest of 1, 2 and 3, of which the third is killed.
            Ok(world) => assert!(all(recv.bytes(), world as u8), "a wrong result"),
            Err(_) => assert!(all(send.bytes(), 1), "the input was lost"),
        }
        for pages in [send, recv] {
            match forbid {
                true => pages.forbid(),
                false => pages.bytes().fill(POISON),
            }
            left.push(pages);
        }
        outcome
    };
    assert_eq!(reduce_and_leave(), Ok(3));
    assert_eq!(reduce_and_leave(), Err(ErrorKind::Aborted));
    tell("aborted");
    // What was held back comes first on the same connections. Were it for memory that is forbidden, the system would
    // refuse to write there, and the link would be lost.
    for _ in 0..3 {
        assert_eq!(reduce_and_leave(), Ok(2));
    }
    assert!(forbid || left.iter().all(|pages| all(pages.bytes(), POISON)));
}

/// The one that is killed, or the one that survives beside it.
fn other(peer: &Communicator, value: u8) -> Vec<Result<u32, ErrorKind>> {
    wait_for_world(peer, 3);
    let send = Pages::new(value);
    let (mut outcomes, mut left) = (Vec::new(), Vec::new());
    while outcomes.len() < 5 {
        let recv = Pages::new(0);
        outcomes.push(reduce(peer, &send, &recv));
        recv.bytes().fill(POISON);
        left.push(recv);
    }
    assert!(all(send.bytes(), value) && left.iter().all(|pages| all(pages.bytes(), POISON)));
    outcomes
}

pub fn memory_victim(told: &str) {
    let told: Vec<&str> = told.split(' ').collect();
    other(&peer(told[0], told[1], told[2]), 3);
}

fn place(wire: &Wire) -> (String, String) {
    let listen = reserved();
    (listen.to_string(), wire.open(listen).port().to_string())
}

#[test]
fn memory_of_a_call_that_has_returned_is_not_touched_although_its_frames_still_arrive() {
    let mut held_back = 0;
    for seed in Seed::each(4) {
        let how = ["in-place forbid", "in-place poison", "apart forbid", "apart poison"];
        held_back += kill_the_third_and_hold_back_the_second(&seed, how[seed.number() as usize % 4]);
    }
    assert!(held_back > 0, "no frame came late");
}

/// Connections that were held back in the middle of a frame of the aborted operation.
fn kill_the_third_and_hold_back_the_second(seed: &Seed, how: &str) -> usize {
    // A mesh: every pair has payload to carry, both ways, four times the input in all. What is held back is no silent
    // link, however long it takes: a second abort would be one for memory that was touched.
    let (_master, address) = master_with(|master| master.schedule(ScheduleChoice::Mesh));
    let wire = Wire::default();
    let [first, second, third] = [0; 3].map(|_| place(&wire));
    let victim = Arc::new(Mutex::new(None));
    let (doomed, asked) = (Arc::clone(&victim), address.clone());
    // In the second operation, when all are in it and nobody can be done.
    wire.at_byte((5 * LEN) as u64 + seed.dice().below(LEN as u64), move || {
        // When the master answers, it has read that all are in it, which had arrived before the question. Were the death the
        // first that it hears of, the others would do the operation by themselves, and wait for what is held back.
        inspect(&asked, 20_000).unwrap();
        doomed.lock().unwrap().take().into_iter().for_each(Process::kill);
        Some((1, 0))
    });
    std::thread::scope(|threads| {
        let address = &address;
        let survivor = threads.spawn(move || other(&peer(address, &second.0, &second.1), 2));
        let mut watched =
            Process::start("returned-memory", &format!("{address} {} {} {how}", first.0, first.1));
        let third = Process::start("memory-victim", &format!("{address} {} {}", third.0, third.1));
        *victim.lock().unwrap() = Some(third);
        assert_eq!(watched.hears().as_deref(), Some("aborted"));
        let held_back = wire.release();
        assert!(watched.succeeds(), "{how}");
        let outcomes = survivor.join().unwrap();
        assert_eq!(outcomes, [Ok(3), Err(ErrorKind::Aborted), Ok(2), Ok(2), Ok(2)]);
        held_back
    })
}
