//! Asking a master what it knows, without joining.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, ErrorKind, Result};
use crate::limits::MAX_CONTROL_FRAME_BYTES;
use crate::net::dial::{dial_until_answered, resolve};
use crate::types::{FigureRow, RunReport};
use crate::wire::hello::Hello;
use crate::wire::message::{MasterMessage, PeerMessage};
use crate::wire::{FrameAssembler, decode_master, encode_peer};

/// Blocks until the master has answered.
pub fn inspect(master: &str, timeout_ms: u64) -> Result<(RunReport, Vec<FigureRow>)> {
    let failed = |reason| Error::new(ErrorKind::MasterConnectionFailed, reason);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(format!("the system gives no event queue: {error}")))?;
    runtime.block_on(async {
        let until = Instant::now() + std::time::Duration::from_millis(timeout_ms);
        let late = |_| Err(format!("{master} did not answer within {timeout_ms} ms"));
        timeout_at(until, ask(master, until)).await.unwrap_or_else(late).map_err(failed)
    })
}

async fn ask(master: &str, until: Instant) -> std::result::Result<(RunReport, Vec<FigureRow>), String> {
    let addresses = resolve(master).await?;
    let mut stream = dial_until_answered(&addresses, Hello::Control, until).await?;
    let mut question = Vec::new();
    encode_peer(&PeerMessage::Inspect, &mut question).map_err(|error| error.to_string())?;
    stream.write_all(&question).await.map_err(|error| format!("{master}: {error}"))?;

    let mut assembler = FrameAssembler::new(MAX_CONTROL_FRAME_BYTES);
    let mut answer: Option<RunReport> = None;
    let mut rows = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = stream.read(&mut buffer).await.map_err(|error| format!("{master}: {error}"))?;
        if read == 0 {
            return Err(format!("{master} ended the connection before it had answered"));
        }
        let mut left = &buffer[..read];
        while let Some(body) = assembler.next_body(&mut left).map_err(|error| format!("{master}: {error}"))? {
            match decode_master(&body).map_err(|error| format!("{master}: {error}"))? {
                MasterMessage::Run { report } => answer = Some(*report),
                MasterMessage::Figures { row } if answer.is_some() => rows.push(row),
                MasterMessage::Refused { text, .. } => return Err(format!("{master}: {text}")),
                _ => {}
            }
            if let Some(report) = answer.take_if(|report| rows.len() >= report.rows as usize) {
                return Ok((report, rows));
            }
        }
    }
}
