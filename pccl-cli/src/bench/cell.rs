//! One case: buffers, warm-up, iterations, check, and the row that comes of it.

use std::time::Instant;

use half::{bf16, f16};
use pccl_core::api::{DType, Error, Quantization, ReduceOp, Tag};

use super::case::{Case, Row, SocketRow, Spread, bus_factor};
use super::numbers::{Number, Numbers};
use super::sockets::Add;
use super::usage;
use super::worker::Worker;

/// Fewer say nothing about the spread.
const MIN_ITERATIONS: u32 = 5;
const MAX_ITERATIONS: u32 = 1000;
const ADDS: u32 = 3;
/// Of the operation behind which others are measured; theirs are lower.
const BEHIND_TAG: Tag = Tag(1 << 20);
/// So many of it may end without having had a measured one beside it.
const MAX_IN_VAIN: u32 = 3;

pub fn measure(worker: &Worker<'_>, case: &Case) -> Result<Row, String> {
    match case.dtype()? {
        DType::U8 => Cell::<u8>::run(worker, case),
        DType::I8 => Cell::<i8>::run(worker, case),
        DType::I16 => Cell::<i16>::run(worker, case),
        DType::U16 => Cell::<u16>::run(worker, case),
        DType::U32 => Cell::<u32>::run(worker, case),
        DType::I32 => Cell::<i32>::run(worker, case),
        DType::U64 => Cell::<u64>::run(worker, case),
        DType::I64 => Cell::<i64>::run(worker, case),
        DType::F16 => Cell::<f16>::run(worker, case),
        DType::BF16 => Cell::<bf16>::run(worker, case),
        DType::F32 => Cell::<f32>::run(worker, case),
        DType::F64 => Cell::<f64>::run(worker, case),
    }
}

/// Sums over the iterations at this process, and each iteration's time.
#[derive(Default)]
struct Samples {
    times_us: Vec<f64>,
    cpu_s: f64,
}

impl Samples {
    fn take(&mut self, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        let (cpu, start) = (usage::cpu_s(), Instant::now());
        work()?;
        self.times_us.push(start.elapsed().as_secs_f64() * 1e6);
        self.cpu_s += usage::cpu_s().zip(cpu).map_or(f64::NAN, |(after, before)| after - before);
        Ok(())
    }
}

/// About the results.
struct Findings {
    wrong: u64,
    /// NaN if they must be exact.
    error: f64,
}

struct Cell<'a, T> {
    worker: &'a Worker<'a>,
    case: &'a Case,
    op: ReduceOp,
    quantization: Quantization,
    numbers: Numbers<T>,
    /// The input, and in place the output too.
    send: Vec<T>,
    recv: Vec<T>,
    /// Elements of one of the concurrent operations.
    count: usize,
}

impl<T: Number> Cell<'_, T> {
    fn run(worker: &Worker<'_>, case: &Case) -> Result<Row, String> {
        let (op, quantization) = (case.op()?, case.quantization()?);
        let numbers = match quantization {
            Quantization::None => Numbers::new,
            _ => Numbers::for_quantization,
        };
        let count = (case.size_bytes / u64::from(case.tags) / size_of::<T>() as u64).max(1) as usize;
        let all = count * case.tags as usize;
        let mut cell = Cell {
            worker,
            case,
            op,
            quantization,
            numbers: numbers(op, worker.job.world, worker.job.rank),
            send: vec![T::default(); all],
            recv: vec![T::default(); if case.in_place { 0 } else { all }],
            count,
        };
        cell.numbers.fill(&mut cell.send);
        // Its pages are there before the clock runs.
        cell.recv.fill(T::default());
        cell.measured()
    }

    fn size_bytes(&self) -> u64 {
        size_of_val(self.send.as_slice()) as u64
    }

    fn measured(&mut self) -> Result<Row, String> {
        let mut warm = Samples::default();
        for _ in 0..self.worker.job.warmup.max(1) {
            self.iteration(&mut warm)?;
        }
        let iterations = self.iterations(warm.times_us.last().copied().unwrap_or(0.0))?;
        usage::forget_peak_memory();
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        match self.worker.job.behind_bytes {
            Some(bytes) => ours = self.behind(bytes, iterations as usize)?,
            None => (0..iterations).try_for_each(|_| self.in_turns(&mut ours, &mut theirs))?,
        }
        let peak_bytes = usage::peak_memory_bytes();
        let add_cpu_s = self.add_cpu_s()?;
        let found = if self.worker.job.check { Some(self.found()?) } else { None };
        self.row(ours, theirs, add_cpu_s, peak_bytes, found)
    }

    fn in_turns(&mut self, ours: &mut Samples, theirs: &mut Samples) -> Result<(), String> {
        if self.worker.sockets.is_some() {
            // After the other's turn windows and caches are cold: each has a lap to warm up.
            self.iteration(&mut Samples::default())?;
        }
        self.iteration(ours)?;
        self.socket_iteration(theirs)
    }

    /// All concurrent operations, once. In place the input is written anew first, outside of the time.
    fn iteration(&mut self, samples: &mut Samples) -> Result<(), String> {
        if self.case.in_place {
            self.numbers.fill(&mut self.send);
            self.worker.barrier()?;
        }
        samples.take(|| self.reduce().map_err(|e| format!("all-reduce: {e}")))
    }

    /// The iterations' times while a large operation is under way; one follows the other until there are enough, or time is up.
    fn behind(&mut self, bytes: u64, iterations: usize) -> Result<Samples, String> {
        let (worker, begun) = (self.worker, Instant::now());
        let large = vec![1f32; bytes as usize / size_of::<f32>()];
        let mut sum = vec![0f32; large.len()];
        let (mut samples, mut in_vain) = (Samples::default(), 0);
        loop {
            let before = samples.times_us.len();
            worker.barrier()?;
            worker.communicator.scope(|scope| {
                let failed = |e: Error| format!("the all-reduce of {bytes} bytes: {e}");
                let work = scope.all_reduce(&large, &mut sum, ReduceOp::Sum, BEHIND_TAG).map_err(failed)?;
                // Now all have begun it.
                worker.barrier()?;
                loop {
                    let mut sample = Samples::default();
                    self.iteration(&mut sample)?;
                    // It may have come to its end meanwhile: then this one was behind nothing.
                    let mut over = [u8::from(work.is_done())];
                    worker.reduce(&mut over, ReduceOp::Max)?;
                    if over != [0] {
                        return work.wait().map(|_| ()).map_err(failed);
                    }
                    samples.times_us.append(&mut sample.times_us);
                }
            })?;
            in_vain = if samples.times_us.len() > before { 0 } else { in_vain + 1 };
            if in_vain > MAX_IN_VAIN {
                return Err(format!(
                    "an operation of {bytes} bytes ends before one that begins behind it: ask for more"
                ));
            }
            let mut elapsed_s = [begun.elapsed().as_secs_f64()];
            worker.reduce(&mut elapsed_s, ReduceOp::Max)?;
            let (there, time_is_up) = (samples.times_us.len(), elapsed_s[0] >= worker.job.seconds);
            if there >= iterations || (there >= MIN_ITERATIONS as usize && time_is_up) {
                // The large one's is in it.
                samples.cpu_s = f64::NAN;
                return Ok(samples);
            }
        }
    }

    fn reduce(&mut self) -> Result<(), Error> {
        let (communicator, op, quantization) = (&self.worker.communicator, self.op, self.quantization);
        let tags = (1..).map(Tag);
        communicator.scope(|scope| {
            let mut works = Vec::with_capacity(self.case.tags as usize);
            if self.case.in_place {
                for (data, tag) in self.send.chunks_mut(self.count).zip(tags) {
                    works.push(scope.all_reduce_quantized_in_place(data, op, quantization, tag)?);
                }
            } else {
                let parts = self.send.chunks(self.count).zip(self.recv.chunks_mut(self.count));
                for ((send, recv), tag) in parts.zip(tags) {
                    works.push(scope.all_reduce_quantized(send, recv, op, quantization, tag)?);
                }
            }
            works.iter().try_for_each(|work| work.wait().map(|_| ()))
        })
    }

    fn socket_iteration(&self, samples: &mut Samples) -> Result<(), String> {
        let Some(sockets) = &self.worker.sockets else { return Ok(()) };
        let each = self.sent_by_each();
        sockets.exchange(each).map_err(|e| format!("baseline sockets: {e}"))?;
        self.worker.barrier()?;
        samples.take(|| sockets.exchange(each).map_err(|e| format!("baseline sockets: {e}")))?;
        self.worker.barrier()
    }

    fn sent_by_each(&self) -> u64 {
        (self.size_bytes() as f64 * bus_factor(self.worker.job.world)) as u64
    }

    /// The slowest decides, so that all do the same number.
    fn iterations(&self, last_us: f64) -> Result<u32, String> {
        let mut slowest = [last_us];
        self.worker.reduce(&mut slowest, ReduceOp::Max)?;
        let fit = self.worker.job.seconds * 1e6 / slowest[0].max(1.0);
        Ok(self.worker.job.iterations.unwrap_or((fit as u32).clamp(MIN_ITERATIONS, MAX_ITERATIONS)))
    }

    /// What adding costs while the other processes add too. NaN where nobody asked.
    fn add_cpu_s(&self) -> Result<f64, String> {
        if self.worker.sockets.is_none() {
            return Ok(f64::NAN);
        }
        let mut add = Add::of(self.sent_by_each() / 2);
        add.run();
        let mut samples = Samples::default();
        for _ in 0..ADDS {
            self.worker.barrier()?;
            samples.take(|| {
                add.run();
                Ok(())
            })?;
        }
        Ok(samples.cpu_s / f64::from(ADDS))
    }

    /// Looks at the last result, then at one more that finds nothing right in place before.
    fn found(&mut self) -> Result<Findings, String> {
        let before = self.look()?;
        self.recv.fill(T::default());
        self.iteration(&mut Samples::default())?;
        let after = self.look()?;
        // NaN is as wrong as can be, and `max` would pass over it.
        let error = if before.error > after.error { before.error } else { after.error + 0.0 * before.error };
        Ok(Findings { wrong: before.wrong.max(after.wrong), error })
    }

    fn look(&self) -> Result<Findings, String> {
        if self.quantization == Quantization::None {
            return Ok(Findings { wrong: self.numbers.wrong(self.result()), error: f64::NAN });
        }
        // Nobody knows the bits, but they are the same everywhere.
        let bits = f64::from(self.result().iter().fold(0, |hash: u32, element| {
            hash.rotate_left(5)
                ^ (element.value().to_bits() as u32)
                ^ (element.value().to_bits() >> 32) as u32
        }));
        let mut ends = [bits, -bits];
        self.worker.reduce(&mut ends, ReduceOp::Max)?;
        let same = ends[0] == -ends[1];
        let wrong = if same { 0 } else { self.send.len() as u64 };
        Ok(Findings { wrong, error: self.numbers.error(self.result()) })
    }

    fn result(&self) -> &[T] {
        if self.case.in_place { &self.send } else { &self.recv }
    }

    fn own_buffer_bytes(&self) -> u64 {
        let sockets = self.worker.sockets.as_ref();
        let recv = size_of_val(self.recv.as_slice()) as u64;
        let behind = 2 * self.worker.job.behind_bytes.unwrap_or(0);
        self.size_bytes() + recv + behind + sockets.map_or(0, |s| s.buffer_bytes(self.sent_by_each()))
    }

    /// Everybody's figures become one row.
    fn row(
        &self,
        mut ours: Samples,
        mut theirs: Samples,
        add_cpu_s: f64,
        peak_bytes: Option<u64>,
        found: Option<Findings>,
    ) -> Result<Row, String> {
        let worker = self.worker;
        // Before the sums below: after the last of them the others may be gone, and their links with them.
        let links = worker.links();
        worker.reduce(&mut ours.times_us, ReduceOp::Avg)?;
        let per_iteration = 1.0 / ours.times_us.len() as f64;
        let mut sums = [
            ours.cpu_s * per_iteration,
            theirs.cpu_s * per_iteration,
            add_cpu_s,
            found.as_ref().map_or(0, |found| found.wrong) as f64,
        ];
        worker.reduce(&mut sums, ReduceOp::Sum)?;
        let mut peak =
            [peak_bytes.map_or(f64::NAN, |peak| peak.saturating_sub(self.own_buffer_bytes()) as f64)];
        worker.reduce(&mut peak, ReduceOp::Max)?;
        let [cpu_s, socket_cpu_s, add_cpu_s, wrong_sum] = sums;
        let (size, world) = (self.size_bytes(), worker.job.world);
        let time_us = Spread::of(&ours.times_us);
        let algbw_gb_s = size as f64 / 1e3 / time_us.median;
        let moved_gb = f64::from(world) * bus_factor(world) * size as f64 / 1e9;
        let by_gb = |seconds: f64| Some(seconds / moved_gb).filter(|x| x.is_finite());
        let sockets = if worker.sockets.is_some() {
            worker.reduce(&mut theirs.times_us, ReduceOp::Avg)?;
            let theirs_us = Spread::of(&theirs.times_us);
            let pairs = ours.times_us.iter().zip(&theirs.times_us);
            let ratios: Vec<f64> = pairs.map(|(ours, theirs)| theirs / ours).collect();
            Some(SocketRow {
                time_us: theirs_us,
                busbw_gb_s: bus_factor(world) * size as f64 / 1e3 / theirs_us.median,
                cpu_s_per_gb: by_gb(socket_cpu_s),
                add_cpu_s_per_gb: by_gb(add_cpu_s),
                busbw_ratio: Spread::of(&ratios).median,
                cpu_ratio: Some(cpu_s / (socket_cpu_s + add_cpu_s)).filter(|x| x.is_finite()),
            })
        } else {
            None
        };
        Ok(Row {
            size_bytes: size,
            count: self.send.len() as u64,
            dtype: self.case.dtype.clone(),
            op: self.case.op.clone(),
            in_place: self.case.in_place,
            schedule: worker.job.schedule.clone(),
            pool: worker.pool,
            world,
            tags: self.case.tags,
            behind_bytes: worker.job.behind_bytes,
            iterations: ours.times_us.len() as u32,
            time_us,
            algbw_gb_s,
            busbw_gb_s: bus_factor(world) * algbw_gb_s,
            cpu_s_per_gb: by_gb(cpu_s),
            peak_memory_mib: Some(peak[0] / f64::from(1 << 20)).filter(|x| x.is_finite()),
            wrong: found.as_ref().map(|_| wrong_sum as u64),
            congestion_control: links.congestion,
            quantize: self.case.quantize.clone(),
            predicted_us: (self.quantization == Quantization::None)
                .then(|| self.worker.predicted_us(size, self.case.tags))
                .flatten(),
            error: found.filter(|_| self.quantization != Quantization::None).map(|found| found.error),
            sockets,
        })
    }
}
