//! `pccl bench` as a person or a script meets it.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn bench(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pccl"));
    command.arg("bench").args(arguments.split_whitespace());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of this test's own.
fn file(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}

fn measured(arguments: &str, name: &str) -> (Output, Value) {
    let json = file(name);
    // Whom a busy machine keeps waiting must not count as dead.
    let out = bench(arguments).args(["--set", "silence_ms=30000", "--json"]).arg(&json).output().unwrap();
    assert!(out.status.success(), "{}\n{}", text(&out.stdout), text(&out.stderr));
    let report = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    std::fs::remove_file(json).unwrap();
    (out, report)
}

#[test]
fn the_whole_matrix_is_measured_checked_and_shown() {
    let matrix = "-b 4KiB -e 64KiB -f 16 -N 2,3 --schedule ring,mesh --tags 1,3 --place out,in -n 5 -w 1";
    let (out, report) = measured(matrix, "matrix.json");
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2 * 2 * 2 * 2 * 2);
    assert_eq!(report["ok"], true);
    for row in rows {
        assert_eq!((&row["wrong"], &row["iterations"]), (&0.into(), &5.into()), "{row:#}");
        assert_eq!(row["pool"], 8, "it has waited until all connections are there");
        let number = |name: &str| row[name].as_f64().unwrap();
        let factor = 2.0 * (number("world") - 1.0) / number("world");
        assert!((number("busbw_gb_s") / number("algbw_gb_s") - factor).abs() < 1e-9);
        assert!(row["time_us"]["min"].as_f64() <= row["time_us"]["median"].as_f64());
        assert!(row["time_us"]["median"].as_f64() <= row["time_us"]["max"].as_f64());
        assert!(number("cpu_s_per_gb") > 0.0 || cfg!(not(unix)));
        assert!(!row["congestion_control"].as_str().unwrap().is_empty());
    }
    let table = text(&out.stdout);
    assert_eq!(table.lines().filter(|line| !line.starts_with('#')).count(), rows.len(), "{table}");
    assert!(table.ends_with("# wrong elements: 0 OK\n"), "{table}");
}

#[test]
fn small_operations_are_measured_while_a_large_one_is_under_way() {
    let (out, report) = measured("-b 4KiB -N 3 -n 5 -w 1 --behind 16MiB --seconds 0.1", "behind.json");
    let row = &report["rows"][0];
    assert_eq!((&row["size_bytes"], &row["behind_bytes"]), (&4096.into(), &(16 << 20).into()));
    assert!(row["iterations"].as_u64() >= Some(5) && row["wrong"] == 0, "{row:#}");
    assert!(row["cpu_s_per_gb"].is_null(), "the large one's would be in it");
    assert!(text(&out.stdout).contains("# while an all-reduce of 16777216 bytes is under way"));
}

#[test]
fn every_type_and_operation_comes_out_right() {
    let types = "-d u8,i8,i16,u16,u32,i32,u64,i64,f16,bf16,f32,f64 -o sum,avg,prod,max,min";
    let (_, report) = measured(&format!("-b 5000 -N 3 -n 5 -w 1 {types}"), "types.json");
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 12 * 5);
    assert!(rows.iter().all(|row| row["wrong"] == 0));
}

#[test]
fn quantized_rows_tell_how_far_off_the_results_are() {
    let (_, report) =
        measured("-b 256KiB -N 2 -n 5 -w 1 -q none,u8,zps-i16,4bit,fp8_e4m3,bf16", "quantized.json");
    let rows = report["rows"].as_array().unwrap();
    // Of the range of the results, which two encodings are at most a step of.
    let most = [
        ("none", None),
        ("u8", Some(0.01)),
        ("zps-i16", Some(0.0001)),
        ("4bit", Some(0.15)),
        ("fp8_e4m3", Some(0.1)),
        ("bf16", Some(0.01)),
    ];
    assert_eq!(rows.len(), most.len());
    for (row, (name, most)) in rows.iter().zip(most) {
        assert_eq!((row["quantize"].as_str(), &row["wrong"]), (Some(name), &0.into()), "{row:#}");
        let error = row["error"].as_f64();
        assert_eq!(error.is_some(), most.is_some(), "{row:#}");
        assert!(error.zip(most).is_none_or(|(error, most)| 0.0 < error && error < most), "{row:#}");
    }
}

#[test]
fn a_way_that_the_elements_cannot_go_ends_with_its_reason() {
    for (arguments, reason) in
        [("-d i32 -q u8", "integers"), ("-o prod -q 4bit", "product"), ("-d f64 -q bf16", "f32")]
    {
        let out = bench(&format!("-b 4KiB -n 5 {arguments}")).output().unwrap();
        assert_eq!(out.status.code(), Some(1), "{arguments}");
        assert!(text(&out.stderr).contains(reason), "{arguments}: {}", text(&out.stderr));
    }
    let out = bench("-b 4KiB -q 5bit").output().unwrap();
    assert!(text(&out.stderr).contains("zps-u8"), "{}", text(&out.stderr));
}

#[test]
fn the_socket_baseline_is_measured_beside_and_the_plot_drawn() {
    let plot = file("plot.svg");
    let arguments = format!("-b 64KiB -e 256KiB -n 5 --baseline sockets --plot {}", plot.display());
    let (out, report) = measured(&arguments, "sockets.json");
    for row in report["rows"].as_array().unwrap() {
        let sockets = &row["sockets"];
        assert!(sockets["busbw_ratio"].as_f64().unwrap() > 0.0, "{row:#}");
        assert!(sockets["time_us"]["median"].as_f64().unwrap() > 0.0);
        assert!(sockets["cpu_ratio"].as_f64().unwrap_or(1.0) > 0.0);
    }
    assert!(text(&out.stdout).contains("sockets"));
    let svg = std::fs::read_to_string(&plot).unwrap();
    std::fs::remove_file(plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains(">auto<") && svg.contains(">sockets, auto<"), "{svg}");
}

/// A master as a process, ended with the test.
struct Master {
    child: Child,
    address: String,
}

impl Master {
    fn start() -> Master {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pccl"))
            .args(["master", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_string();
        Master { child, address }
    }

    fn host(&self, rank: u32, arguments: &str) -> Child {
        bench(&format!("--master {} --rank {rank} {arguments}", self.address))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn hosts_that_run_the_same_command_measure_together_and_rank_0_prints() {
    let master = Master::start();
    let arguments = "--world 2 -b 4KiB -n 5 --pool 1,2 --baseline sockets";
    let hosts = [0, 1].map(|rank| master.host(rank, arguments));
    let [first, second] = hosts.map(|host| host.wait_with_output().unwrap());
    assert!(first.status.success() && second.status.success(), "{}", text(&first.stderr));
    assert!(text(&first.stdout).ends_with("# wrong elements: 0 OK\n"), "{}", text(&first.stdout));
    assert_eq!(text(&second.stdout), "");
}

#[test]
fn hosts_with_different_options_or_one_rank_twice_are_told() {
    let master = Master::start();
    for (ranks, sizes, hint) in
        [([0, 1], ["4KiB", "8KiB"], "different options"), ([1, 1], ["4KiB"; 2], "--rank")]
    {
        let start = |i: usize| master.host(ranks[i], &format!("--world 2 -n 5 -b {}", sizes[i]));
        let hosts = [start(0), start(1)];
        for host in hosts {
            let out = host.wait_with_output().unwrap();
            assert_eq!(out.status.code(), Some(1));
            assert!(text(&out.stderr).contains(hint), "{}", text(&out.stderr));
        }
    }
}

#[test]
fn bad_arguments_say_what_is_possible() {
    for (arguments, hint) in [
        ("-b much", "64MiB"),
        ("-b 8KiB -e 4KiB", "--max-bytes"),
        ("-n 4", "5.."),
        ("-d float", "bf16"),
        ("-o mean", "avg"),
        ("--world 1", "2..=64"),
        ("--schedule star", "ring"),
        ("--master here:1", "--rank"),
        ("--master here:1 --rank 2 --world 2", "below 2"),
        ("--set silence=1", "silence_ms"),
    ] {
        let out = bench(arguments).output().unwrap();
        assert!(!out.status.success(), "{arguments}");
        assert!(text(&out.stderr).contains(hint), "{arguments}: {}", text(&out.stderr));
    }
}

#[test]
fn ranks_that_fail_end_the_run_with_their_reason() {
    let out = bench("-b 4KiB -n 5").env("PCCL_RUN_KEY", "not yet").output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("PCCL_RUN_KEY"), "{}", text(&out.stderr));
}

#[test]
fn help_explains_the_columns_and_shows_how() {
    let help = text(&bench("--help").output().unwrap().stdout);
    for word in ["busbw", "pccl bench --master", "--baseline", "--tags 1,64", "--json", "--quantize"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
