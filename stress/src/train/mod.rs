//! What quantized gradients do to a training: the same model, learned by several peers with each way of reducing.

mod model;
mod plot;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use model::{Image, Model};
use pccl_core::api::{Communicator, DType, Master, Quantization, ReduceOp, Tag};

#[derive(Clone, Debug, Args)]
pub struct TrainArgs {
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=16))]
    peers: u32,
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    steps: u32,
    /// Trainings of each way, which begin and draw their images differently: how far they lie apart is the noise
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    seeds: u32,
    /// Units of the hidden layer
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    hidden: u32,
    /// Write the loss over the steps as an SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Images of each peer's batch.
const BATCH: usize = 16;
const RATE: f32 = 0.2;
/// Steps from one measurement of the loss to the next.
const EVERY: u32 = 10;

#[derive(Clone, Copy, Debug)]
struct Way {
    name: &'static str,
    quantization: Quantization,
    with_feedback: bool,
}

const WAYS: [Way; 4] = [
    Way { name: "unquantized", quantization: Quantization::None, with_feedback: false },
    Way { name: "u8", quantization: Quantization::MinMax(DType::U8), with_feedback: false },
    Way { name: "4 bits", quantization: Quantization::Bits4, with_feedback: false },
    Way { name: "4 bits, feedback", quantization: Quantization::Bits4, with_feedback: true },
];

/// One training.
struct Outcome {
    /// Over all images, every `EVERY` steps, the first before any.
    losses: Vec<f64>,
    /// That one peer has sent in a step.
    tx_bytes: u64,
}

/// All trainings of one way.
struct Curve {
    name: &'static str,
    /// The mean over the seeds.
    losses: Vec<f64>,
    /// Beside the unquantized training of the same seed, in per cent: the mean over the seeds.
    apart_percent: Vec<f64>,
    /// The last losses, sorted.
    last: Vec<f64>,
}

pub fn run(args: &TrainArgs) -> Result<ExitCode, String> {
    println!(
        "{:<18} {:>10} {:>20} {:>18} {:>14}",
        "gradients", "last loss", "of each seed", "to unquantized", "bytes a step"
    );
    let (mut curves, mut unquantized) = (Vec::new(), Vec::new());
    for way in WAYS {
        let outcomes: Vec<Outcome> =
            (0..args.seeds).map(|seed| train(args, way, seed.into())).collect::<Result<_, _>>()?;
        let losses: Vec<Vec<f64>> = outcomes.iter().map(|outcome| outcome.losses.clone()).collect();
        if curves.is_empty() {
            unquantized.clone_from(&losses);
        }
        let curve = curve(way.name, &losses, &unquantized);
        let end = curve.losses.len() - 1;
        let range = format!("{:.4} to {:.4}", curve.last[0], curve.last[curve.last.len() - 1]);
        let (mean, apart, bytes) = (curve.losses[end], curve.apart_percent[end], outcomes[0].tx_bytes);
        println!("{:<18} {mean:>10.4} {range:>20} {apart:>+16.2} % {bytes:>14}", way.name);
        curves.push(curve);
    }
    if let Some(path) = &args.plot {
        let title = format!("{} peers, {} seeds, {} hidden units", args.peers, args.seeds, args.hidden);
        std::fs::write(path, plot::svg(&title, &curves, EVERY))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `losses` and those they are held against: of each seed.
fn curve(name: &'static str, losses: &[Vec<f64>], beside: &[Vec<f64>]) -> Curve {
    let seeds = losses.len() as f64;
    let points = || 0..losses[0].len();
    let apart = |at: usize| {
        let ratios = losses.iter().zip(beside).map(|(losses, beside)| losses[at] / beside[at]);
        (ratios.sum::<f64>() / seeds - 1.0) * 100.0
    };
    let mut last: Vec<f64> = losses.iter().filter_map(|losses| losses.last().copied()).collect();
    last.sort_by(f64::total_cmp);
    Curve {
        name,
        losses: points().map(|at| losses.iter().map(|losses| losses[at]).sum::<f64>() / seeds).collect(),
        apart_percent: points().map(apart).collect(),
        last,
    }
}

/// All peers are threads of this process, with a connection between each two as if they were not.
fn train(args: &TrainArgs, way: Way, seed: u64) -> Result<Outcome, String> {
    let failed = |error: pccl_core::api::Error| format!("{}, seed {seed}: {error}", way.name);
    let master = Master::builder("127.0.0.1:0").build().map_err(failed)?;
    master.run().map_err(failed)?;
    let address = master.address().ok_or("the master has no address")?.to_string();
    let images = model::images();
    let (images, address) = (&images, &address);
    let mut peers = std::thread::scope(|threads| {
        let start = |peer| threads.spawn(move || learn(args, way, seed, peer, address, images));
        let threads: Vec<_> = (0..args.peers).map(start).collect();
        let outcomes = threads.into_iter().map(|thread| match thread.join() {
            Ok(outcome) => outcome.map_err(failed),
            Err(_) => Err(format!("{}, seed {seed}: a peer panicked", way.name)),
        });
        outcomes.collect::<Result<Vec<_>, String>>()
    })?;
    if peers.iter().any(|(_, parameters)| *parameters != peers[0].1) {
        return Err(format!("{}, seed {seed}: the peers' models differ", way.name));
    }
    Ok(peers.swap_remove(0).0)
}

fn learn(
    args: &TrainArgs,
    way: Way,
    seed: u64,
    peer: u32,
    address: &str,
    images: &[Image],
) -> pccl_core::api::Result<(Outcome, Vec<f32>)> {
    let communicator = Communicator::builder(address).build()?;
    communicator.connect()?;
    while communicator.world_size() < args.peers {
        communicator.update_topology()?;
    }
    let own: Vec<&Image> = images.iter().skip(peer as usize).step_by(args.peers as usize).collect();
    // The same model at every peer, and other images.
    let mut model = Model::new(args.hidden as usize, &mut fastrand::Rng::with_seed(seed));
    let mut rng = fastrand::Rng::with_seed((seed << 8) + u64::from(peer) + 1);
    let mut gradient = vec![0.0; model.parameters.len()];
    let mut residual = gradient.clone();
    let mut outcome = Outcome { losses: Vec::new(), tx_bytes: 0 };
    for step in 0..=args.steps {
        if step % EVERY == 0 && peer == 0 {
            outcome.losses.push(model.loss(images.iter()));
        }
        if step == args.steps {
            break;
        }
        let batch: Vec<&Image> = (0..BATCH).map(|_| own[rng.usize(..own.len())]).collect();
        model.gradient(batch.into_iter(), &mut gradient);
        let Way { quantization, with_feedback, .. } = way;
        let info = if with_feedback {
            communicator.all_reduce_with_feedback(
                &mut gradient,
                &mut residual,
                ReduceOp::Avg,
                quantization,
                Tag(1),
            )?
        } else {
            communicator.scope(|scope| {
                scope
                    .all_reduce_quantized_in_place(&mut gradient, ReduceOp::Avg, quantization, Tag(1))?
                    .wait()
            })?
        };
        outcome.tx_bytes = info.tx_bytes;
        model.descend(&gradient, RATE);
    }
    Ok((outcome, model.parameters))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where without feedback it is farther off than with it by much more than trainings of one seed differ.
    #[test]
    fn training_with_4_bits_and_feedback_goes_as_without_quantization() {
        let args = TrainArgs { peers: 3, steps: 150, seeds: 3, hidden: 48, plot: None };
        let losses = |way| -> Vec<Vec<f64>> {
            (0..args.seeds).map(|seed| train(&args, way, seed.into()).unwrap().losses).collect()
        };
        let plain = losses(WAYS[0]);
        assert!(
            plain.iter().all(|losses| losses.last().is_some_and(|last| *last < 0.5)),
            "nothing was learned: {plain:?}"
        );
        let apart_percent = |way: Way| *curve(way.name, &losses(way), &plain).apart_percent.last().unwrap();
        let [_, of_8_bits, without, with_feedback] = WAYS;
        let apart = [of_8_bits, with_feedback, without].map(apart_percent);
        let [of_8_bits, with_feedback, without] = apart;
        assert!(
            of_8_bits.abs() < 0.4 && with_feedback.abs() < 0.4 && without > 0.8,
            "in per cent: {apart:?}"
        );
    }
}
