//! One participant: joins the run, measures one case after the other in step with the rest, and adds up with
//! them, over pccl itself, what each has measured.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use pccl_core::api::{Communicator, LinkStats, ReduceOp, ScheduleChoice, Tag, inspect};
use pccl_core::limits::DEFAULT_POOL_CONNECTIONS;
use pccl_core::types::Cost;

use super::case::{Job, Row};
use super::cell;
use super::sockets::{Door, Like, Sockets};

/// The operations that are measured have the tags from 1.
const OWN_TAG: Tag = Tag(0);
const LONELY: Duration = Duration::from_millis(2);
/// How long to wait for the others: hosts are started by hand.
const JOIN_LOOPBACK: Duration = Duration::from_secs(20);
/// Pools widen in the background: they are taken to be as large as they get when nothing has come for so long, and four round
/// trips. One end of a pair waits for the other's connections for a second.
const POOL_QUIET: Duration = Duration::from_millis(300);
const POOL_QUIET_SMALL: Duration = Duration::from_millis(1_500);
const POOL_LIMIT: Duration = Duration::from_secs(10);
const POOL_LOOK: Duration = Duration::from_millis(10);
/// For the master's answer.
const INSPECT_MS: u64 = 10_000;
const JOIN_HOSTS: Duration = Duration::from_secs(120);

pub struct Worker<'a> {
    pub job: &'a Job,
    pub communicator: Communicator,
    pub sockets: Option<Sockets>,
    /// Connections of the pair that has most, once pools are full.
    pub pool: u32,
    /// Of the schedules that operations may go by, if the links were measured.
    costs: Vec<Cost>,
}

/// Every participant gets every row, with the figures of all.
pub fn run(job: &Job, mut emit: impl FnMut(Row)) -> Result<(), String> {
    let mut worker =
        Worker { job, communicator: communicator(job)?, sockets: None, pool: 0, costs: Vec::new() };
    worker.join()?;
    worker.compare_jobs()?;
    if job.optimize {
        worker.costs = worker.optimize()?;
    }
    worker.pool = worker.full_pool()?;
    if job.sockets {
        worker.sockets = Some(worker.open_sockets()?);
    }
    for case in &job.cases {
        emit(cell::measure(&worker, case)?);
    }
    Ok(())
}

fn communicator(job: &Job) -> Result<Communicator, String> {
    let mut builder = Communicator::builder(&job.master).pool(job.pool);
    if job.loopback {
        builder = builder.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    }
    builder.build().map_err(|e| e.to_string())
}

impl Worker<'_> {
    fn join(&self) -> Result<(), String> {
        let communicator = &self.communicator;
        communicator.connect().map_err(|e| format!("connect: {e}"))?;
        let until = Instant::now() + if self.job.loopback { JOIN_LOOPBACK } else { JOIN_HOSTS };
        loop {
            let present = communicator.group_world_size();
            if present == self.job.world {
                return Ok(());
            }
            if present > self.job.world {
                return Err(format!("{present} peers are in the run, but the world is {}", self.job.world));
            }
            if communicator.are_peers_pending().map_err(|e| format!("are_peers_pending: {e}"))? {
                communicator.update_topology().map_err(|e| format!("update_topology: {e}"))?;
            } else if Instant::now() > until {
                return Err(format!("only {present} of {} peers have come", self.job.world));
            } else {
                std::thread::sleep(LONELY);
            }
        }
    }

    /// Options that differ would make peers wait for each other; say so first.
    fn compare_jobs(&self) -> Result<(), String> {
        let same = Job { rank: 0, master: String::new(), schedule: String::new(), ..self.job.clone() };
        let text = serde_json::to_string(&same).map_err(|e| e.to_string())?;
        let hash = u64::from(crc32fast::hash(text.as_bytes()));
        let (mut ranks, mut hashes) = (vec![0; self.job.world as usize], [hash, u64::MAX - hash]);
        ranks[self.job.rank as usize] = 1u64;
        self.reduce(&mut hashes, ReduceOp::Max)?;
        if hashes[0] != u64::MAX - hashes[1] {
            return Err("the hosts were started with different options: they must be the same, but for \
                        --rank, --master, --json and --plot"
                .into());
        }
        self.reduce(&mut ranks, ReduceOp::Sum)?;
        match ranks.iter().position(|&hosts| hosts != 1) {
            Some(rank) => Err(format!("{} hosts were started with --rank {rank}", ranks[rank])),
            None => Ok(()),
        }
    }

    fn optimize(&self) -> Result<Vec<Cost>, String> {
        self.communicator.optimize_topology().map_err(|e| format!("optimize_topology: {e}"))?;
        let (report, _) = inspect(&self.job.master, INSPECT_MS).map_err(|e| format!("inspect: {e}"))?;
        let groups = report.epoch.groups;
        let mine = groups.into_iter().find(|group| group.group.0 == self.communicator.settings().group);
        let Some(planned) = mine.and_then(|group| group.planned) else { return Ok(Vec::new()) };
        let forest = planned.forest.as_ref().map(|forest| forest.cost);
        Ok(match report.epoch.schedule {
            ScheduleChoice::Ring => vec![planned.ring],
            ScheduleChoice::Mesh => vec![planned.mesh],
            ScheduleChoice::Packed => forest.into_iter().collect(),
            ScheduleChoice::Auto => [planned.ring, planned.mesh].into_iter().chain(forest).collect(),
        })
    }

    /// For one operation; the time of several at once is nobody's prediction.
    pub fn predicted_us(&self, size_bytes: u64, tags: u32) -> Option<f64> {
        let least = self.costs.iter().map(|cost| cost.time_us(size_bytes)).min()?;
        (tags == 1).then_some(least as f64)
    }

    /// A small all-reduce of the benchmark's own.
    pub fn reduce<T: pccl_core::api::Element>(&self, data: &mut [T], op: ReduceOp) -> Result<(), String> {
        let reduced = self.communicator.all_reduce_in_place(data, op, OWN_TAG);
        reduced.map(|_| ()).map_err(|e| format!("all-reduce: {e}"))
    }

    /// Nobody is past it before everybody is there.
    pub fn barrier(&self) -> Result<(), String> {
        self.reduce(&mut [0u8], ReduceOp::Sum)
    }

    fn open_sockets(&self) -> Result<Sockets, String> {
        let failed = |e: std::io::Error| format!("baseline sockets: {e}");
        let door = Door::open(self.own_address().map_err(failed)?).map_err(failed)?;
        let (rank, world) = (self.job.rank as usize, self.job.world as usize);
        let mut doors = vec![[0u64; 2]; world];
        doors[rank] = [u64::from(u32::from(door.address)), u64::from(door.port)];
        self.reduce(doors.as_flattened_mut(), ReduceOp::Sum)?;
        let [address, port] = doors[(rank + 1) % world];
        let right = SocketAddr::from((Ipv4Addr::from(address as u32), port as u16));
        door.connect(right, &self.like(), rank, world).map_err(failed)
    }

    /// Waits until pools have their size. All participants get the same figure: neighbours are to agree on the baseline's
    /// connections.
    fn full_pool(&self) -> Result<u32, String> {
        let until = Instant::now() + POOL_LIMIT;
        let (mut seen, mut since) = (Vec::new(), Instant::now());
        loop {
            let links = self.communicator.stats().links;
            let least = links.iter().map(|link| link.connections).min().unwrap_or(0);
            let rtt_us = links.iter().map(|link| link.rtt_us).max().unwrap_or(0);
            let counts: Vec<u32> = links.iter().map(|link| link.connections).collect();
            let now = Instant::now();
            if counts != seen {
                (seen, since) = (counts, now);
            }
            let full = match self.job.pool {
                0 => false,
                asked => least >= u32::from(asked),
            };
            let quiet =
                if least < u32::from(DEFAULT_POOL_CONNECTIONS) { POOL_QUIET_SMALL } else { POOL_QUIET };
            let quiet = quiet + 4 * Duration::from_micros(rtt_us.into());
            if full || now - since >= quiet || now >= until {
                break;
            }
            std::thread::sleep(POOL_LOOK);
        }
        let mut most = [self.links().connections];
        self.reduce(&mut most, ReduceOp::Max)?;
        Ok(most[0])
    }

    /// What the baseline is to have in common with our connections.
    fn like(&self) -> Like {
        // Where they differ there is none to follow.
        let congestion = Some(self.links().congestion).filter(|name| !name.contains(','));
        Like { connections: self.pool, congestion: congestion.unwrap_or_default() }
    }

    /// Our connections as they are, to the peer that has most.
    pub fn links(&self) -> LinkStats {
        let links = self.communicator.stats().links;
        links.into_iter().max_by_key(|link| link.connections).unwrap_or_default()
    }

    /// The address from which this host reaches the master.
    fn own_address(&self) -> std::io::Result<Ipv4Addr> {
        if self.job.loopback {
            return Ok(Ipv4Addr::LOCALHOST);
        }
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(&self.job.master)?;
        match socket.local_addr()? {
            SocketAddr::V4(address) => Ok(*address.ip()),
            SocketAddr::V6(_) => Err(std::io::Error::other("only over IPv4")),
        }
    }
}
