//! What children tell their parent: one line of JSON each on standard output. Times are `clock::now_us`.

use serde::{Deserialize, Serialize};

use super::pattern::Instance;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// The master can be reached there.
    Listening { address: String },
    /// The run has accepted the peer.
    Accepted { at_us: u64 },
    /// An all-reduce succeeded.
    Step(Step),
    /// An all-reduce was aborted and will be called again.
    Aborted { start_us: u64, end_us: u64, reason: String },
    /// `update_topology` returned.
    Updated { start_us: u64, end_us: u64 },
    /// There is nobody to reduce with; said about once a second.
    Alone,
    /// The peer is not, or no longer, in the run, and will join anew.
    Out { reason: String },
    /// The peer gives up.
    Failed { reason: String },
    /// The peer has left the run as it was asked to; the process ends.
    Left,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub instance: Instance,
    /// The epoch this peer was in when the call had returned.
    pub epoch: u64,
    pub start_us: u64,
    pub end_us: u64,
    /// Elements looked at, and the checksum of their bytes.
    pub checked: u64,
    pub checksum: u32,
    /// What is wrong with the result; never set in a healthy run.
    pub wrong: Option<String>,
}

impl Step {
    pub fn took_us(&self) -> u64 {
        self.end_us.saturating_sub(self.start_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_and_reads_back() {
        let instance = Instance { world: 3, value: 700, counter: 12, nonce: [1, 2, 3, 4] };
        let step =
            Step { instance, epoch: 8, start_us: 5, end_us: 9, checked: 64, checksum: 77, wrong: None };
        for report in [Report::Step(step), Report::Alone, Report::Failed { reason: "a\nb".into() }] {
            let line = serde_json::to_string(&report).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report);
        }
    }
}
