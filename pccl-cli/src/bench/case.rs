//! What is measured, and what came out.

use pccl_core::api::{DType, Quantization, ReduceOp};
use serde::{Deserialize, Serialize};

use crate::fleet::statistics::median;

/// One line of the matrix, as every participant knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Of all operations of an iteration together.
    pub size_bytes: u64,
    pub dtype: String,
    pub op: String,
    pub in_place: bool,
    /// Operations under way at once; the size is divided among them.
    pub tags: u32,
    /// What travels instead of the elements; "none".
    pub quantize: String,
}

impl Case {
    pub fn dtype(&self) -> Result<DType, String> {
        dtype_named(&self.dtype)
    }

    pub fn op(&self) -> Result<ReduceOp, String> {
        op_named(&self.op)
    }

    pub fn quantization(&self) -> Result<Quantization, String> {
        quantization_named(&self.quantize)
    }
}

pub fn dtype_named(name: &str) -> Result<DType, String> {
    let names = DType::ALL.map(DType::name).join(", ");
    DType::ALL.into_iter().find(|d| d.name() == name).ok_or(format!("there are {names}"))
}

pub fn op_named(name: &str) -> Result<ReduceOp, String> {
    let names = ReduceOp::ALL.map(ReduceOp::name).join(", ");
    ReduceOp::ALL.into_iter().find(|o| o.name() == name).ok_or(format!("there are {names}"))
}

/// `u8` to `i16` are min-max, `zps-` is zero-point-scale; those without `zps-` have these names in the Python package too.
const QUANTIZATIONS: [(&str, Quantization); 14] = [
    ("none", Quantization::None),
    ("u8", Quantization::MinMax(DType::U8)),
    ("i8", Quantization::MinMax(DType::I8)),
    ("u16", Quantization::MinMax(DType::U16)),
    ("i16", Quantization::MinMax(DType::I16)),
    ("zps-u8", Quantization::ZeroPointScale(DType::U8)),
    ("zps-i8", Quantization::ZeroPointScale(DType::I8)),
    ("zps-u16", Quantization::ZeroPointScale(DType::U16)),
    ("zps-i16", Quantization::ZeroPointScale(DType::I16)),
    ("4bit", Quantization::Bits4),
    ("fp8_e4m3", Quantization::Float8E4M3),
    ("fp8_e5m2", Quantization::Float8E5M2),
    ("f16", Quantization::Float16),
    ("bf16", Quantization::BFloat16),
];

pub fn quantization_named(name: &str) -> Result<Quantization, String> {
    let known = QUANTIZATIONS.iter().find(|(known, _)| *known == name).map(|(_, quantization)| *quantization);
    known.ok_or_else(|| format!("there are {}", QUANTIZATIONS.map(|(name, _)| name).join(", ")))
}

/// What one participant is to do. All of a run get the same, but for the rank.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub master: String,
    /// Everybody is on this machine.
    pub loopback: bool,
    pub rank: u32,
    pub world: u32,
    /// What the master was told; "master's" if it is not ours.
    pub schedule: String,
    /// 0: the library's default.
    pub pool: u16,
    pub warmup: u32,
    /// `None`: as many as fit into `seconds`.
    pub iterations: Option<u32>,
    pub seconds: f64,
    pub check: bool,
    pub sockets: bool,
    /// Of an operation that is under way all the time.
    pub behind_bytes: Option<u64>,
    /// Whether the links are measured first.
    pub optimize: bool,
    pub cases: Vec<Case>,
}

/// Over the iterations; each is the mean over the processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(samples: &[f64]) -> Spread {
        Spread {
            median: median(samples.to_vec()).unwrap_or(0.0),
            min: samples.iter().copied().fold(f64::INFINITY, f64::min),
            max: samples.iter().copied().fold(0.0, f64::max),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// As it was: a multiple of the element's size and of `tags`.
    pub size_bytes: u64,
    /// Elements of all operations of an iteration together.
    pub count: u64,
    pub dtype: String,
    pub op: String,
    pub in_place: bool,
    pub schedule: String,
    /// Connections of the pair that has most, as they were.
    pub pool: u32,
    pub world: u32,
    pub tags: u32,
    /// Of an operation that was under way all the time.
    pub behind_bytes: Option<u64>,
    pub iterations: u32,
    pub time_us: Spread,
    /// size / median time.
    pub algbw_gb_s: f64,
    /// 2(N−1)/N × algbw: one direction of what each peer moves.
    pub busbw_gb_s: f64,
    /// User and system time of all processes by the 2(N−1) × size that they send together. `None` where the
    /// system does not tell.
    pub cpu_s_per_gb: Option<f64>,
    /// Of the largest process, besides the benchmark's own buffers.
    pub peak_memory_mib: Option<f64>,
    /// Elements that are not what they must be, of all processes. `None`: not looked at.
    pub wrong: Option<u64>,
    pub congestion_control: String,
    pub quantize: String,
    /// The worst element by the range of the exact result, of a quantized operation whose results were looked at. `wrong`
    /// counts elements that are not the same bits everywhere there.
    pub error: Option<f64>,
    /// What the plan said of an operation of this size, if the links were measured and it is a single one of what the
    /// schedule says.
    pub predicted_us: Option<f64>,
    pub sockets: Option<SocketRow>,
}

/// The same bytes between the same processes through plain blocking sockets, without adding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SocketRow {
    pub time_us: Spread,
    pub busbw_gb_s: f64,
    pub cpu_s_per_gb: Option<f64>,
    /// What adding once as many bytes as an all-reduce adds costs, by the same bytes.
    pub add_cpu_s_per_gb: Option<f64>,
    /// Ours by theirs; the median over the iterations, which alternate.
    pub busbw_ratio: f64,
    /// Ours by socket and add together.
    pub cpu_ratio: Option<f64>,
}

/// A whole run, as the JSON file has it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub ok: bool,
    pub version: &'static str,
    pub cores: usize,
    #[serde(rename = "where")]
    pub place: &'static str,
    pub rows: Vec<Row>,
}

impl Report {
    pub fn new(loopback: bool) -> Report {
        Report {
            ok: true,
            version: env!("CARGO_PKG_VERSION"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            place: if loopback { "loopback" } else { "hosts" },
            rows: Vec::new(),
        }
    }

    pub fn add(&mut self, row: Row) {
        self.ok &= row.wrong.unwrap_or(0) == 0;
        self.rows.push(row);
    }

    pub fn wrong(&self) -> u64 {
        self.rows.iter().filter_map(|row| row.wrong).sum()
    }
}

/// 2(N−1)/N: what each peer of an all-reduce has to send, in payloads.
pub fn bus_factor(world: u32) -> f64 {
    let n = f64::from(world.max(1));
    2.0 * (n - 1.0) / n
}

#[cfg(test)]
pub fn row_for_tests(size_bytes: u64, schedule: &str, busbw_gb_s: f64) -> Row {
    Row {
        size_bytes,
        count: size_bytes / 4,
        dtype: "f32".into(),
        op: "sum".into(),
        in_place: false,
        schedule: schedule.into(),
        pool: 8,
        world: 2,
        tags: 1,
        behind_bytes: None,
        iterations: 5,
        time_us: Spread { median: 10.0, min: 9.0, max: 12.0 },
        algbw_gb_s: busbw_gb_s,
        busbw_gb_s,
        cpu_s_per_gb: Some(0.5),
        peak_memory_mib: None,
        wrong: Some(0),
        congestion_control: "bbr".into(),
        quantize: "none".into(),
        error: None,
        predicted_us: None,
        sockets: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_element_spoils_the_report() {
        let mut report = Report::new(true);
        report.add(row_for_tests(8, "ring", 1.0));
        assert!(report.ok);
        report.add(Row { wrong: Some(1), ..row_for_tests(8, "ring", 1.0) });
        report.add(row_for_tests(8, "ring", 1.0));
        assert!(!report.ok);
        assert_eq!(report.wrong(), 1);
    }

    #[test]
    fn a_ring_of_two_sends_one_payload_each_and_a_large_one_nearly_two() {
        assert_eq!(bus_factor(2), 1.0);
        assert_eq!(bus_factor(4), 1.5);
        assert_eq!(bus_factor(1), 0.0);
    }

    #[test]
    fn a_name_that_is_no_type_says_what_there_is() {
        assert_eq!(dtype_named("bf16"), Ok(DType::BF16));
        assert!(dtype_named("float").unwrap_err().contains("f32, f64"));
        assert_eq!(op_named("avg"), Ok(ReduceOp::Avg));
        assert!(op_named("mean").unwrap_err().contains("avg"));
        assert_eq!(quantization_named("4bit"), Ok(Quantization::Bits4));
        assert!(quantization_named("u4").unwrap_err().contains("zps-u8"));
    }
}
