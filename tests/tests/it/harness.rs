//! A run for a test: masters and peers of this process, and peers that are processes of their own and can be
//! killed or frozen.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use pccl_core::api::{Communicator, ErrorKind, Master, MasterBuilder, ReduceInfo, ReduceOp, Tag};

/// Elements of each of the eight operations that the role `eight` takes part in.
pub const EIGHT_LEN: usize = 200_000;

const CHILD: &str = "PCCL_TEST_CHILD";

/// The silence time of a run whose subject it is not. A process that a busy machine keeps waiting is no dead one.
const SILENCE_MS: u32 = 60_000;

/// For what comes in the end, if at all: only what never comes is to fail a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tries until it is so.
pub fn until(what: &str, mut met: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !met() {
        assert!(begun.elapsed() < PATIENCE, "after {} s still not: {what}", PATIENCE.as_secs());
        std::thread::yield_now();
    }
}

pub fn master_with(settings: impl FnOnce(MasterBuilder) -> MasterBuilder) -> (Master, String) {
    let master = settings(Master::builder("127.0.0.1:0").silence_ms(SILENCE_MS)).build().unwrap();
    master.run().unwrap();
    let address = master.address().unwrap().to_string();
    (master, address)
}

pub fn master() -> (Master, String) {
    master_with(|master| master)
}

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A loopback address to listen on that nobody takes meanwhile: outside the range that systems give to those who ask
/// for any port, and another one for each caller of each process.
pub fn reserved() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, SeqCst));
        let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + (number % 22_000) as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

pub fn connect(address: &str, pool: u16) -> Communicator {
    let communicator = Communicator::builder(address).listen(loopback()).pool(pool).build().unwrap();
    communicator.connect().unwrap();
    communicator
}

/// Takes part in updates until the run has so many peers.
pub fn wait_for_world(communicator: &Communicator, world: u32) {
    while communicator.world_size() < world {
        communicator.update_topology().unwrap();
    }
}

pub fn join(address: &str, world: u32) -> Communicator {
    let communicator = connect(address, 2);
    wait_for_world(&communicator, world);
    communicator
}

/// Repeats an all-reduce in place until it is not aborted, and checks each time that the input is intact.
pub fn reduce(communicator: &Communicator, data: &mut [f32], tag: u64) -> ReduceInfo {
    let input = data.to_vec();
    loop {
        match communicator.all_reduce_in_place(data, ReduceOp::Sum, Tag(tag)) {
            Err(error) if error.kind == ErrorKind::Aborted => {
                assert!(data == &input[..], "an aborted operation has changed its input: {error}");
            }
            result => return result.unwrap(),
        }
    }
}

/// A peer as a process: this test binary, told to run one of the roles in `child`.
pub struct Process(Child);

/// What a role tells its parent.
pub fn tell(word: &str) {
    println!("\ntold: {word}");
}

impl Process {
    pub fn start(role: &str, address: &str) -> Process {
        Process::start_where(role, address, &[])
    }

    /// With these environment variables.
    pub fn start_where(role: &str, address: &str, variables: &[(&str, &str)]) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child::role", "--nocapture"]).env(CHILD, format!("{role} {address}"));
        command.envs(variables.iter().copied());
        Process(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// The next word it tells; `None` when it has ended.
    pub fn hears(&mut self) -> Option<String> {
        // One byte at a time: nothing of what comes after may be taken.
        let mut line = Vec::new();
        let mut byte = [0];
        while self.0.stdout.as_mut().is_some_and(|out| out.read_exact(&mut byte).is_ok()) {
            line.push(byte[0]);
            if byte[0] == b'\n' {
                if let Some(word) = String::from_utf8_lossy(&line).trim().strip_prefix("told: ") {
                    return Some(word.to_owned());
                }
                line.clear();
            }
        }
        None
    }

    /// Waits for its end; true if it found nothing wrong.
    pub fn succeeds(mut self) -> bool {
        while self.hears().is_some() {}
        self.0.wait().unwrap().success()
    }

    #[cfg(target_os = "linux")]
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: a child of ours that has not been waited for, so the number is its own.
        assert_eq!(unsafe { libc::kill(self.0.id().cast_signed(), signal) }, 0);
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Role and master address, if this process is a `Process`.
pub fn role() -> Option<(String, String)> {
    let told = std::env::var(CHILD).ok()?;
    let (role, address) = told.split_once(' ')?;
    Some((role.to_owned(), address.to_owned()))
}
