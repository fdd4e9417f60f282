//! Memory of a run against the number of its requests: the peak of `partywall certify` with ten times the requests must
//! not be more than 1.2 times. Linux only: the peak is read from /proc.

use std::process::{Command, Stdio};
use std::time::Duration;

/// Generated cases beyond the sweep: together with it about 10,000 and 100,000 requests.
const CASES: [u64; 2] = [500, 92_000];

/// Requests and peak resident bytes of one run.
fn run(cases: u64) -> (u64, u64) {
    let reports = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(env!("CARGO_BIN_EXE_partywall"))
        .args(["certify", "--profile", "quick", "--seed", "5", "--format", "json", "--max-cases", &cases.to_string()])
        .args(["--report", "json", "--report-dir"])
        .arg(reports.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("partywall runs");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let code = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = kib.map_or(peak, |kib| kib * 1024);
        if let Some(code) = child.try_wait().expect("a child") {
            break code;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(code.success(), "the reference is upheld: {code}");
    let run = std::fs::read_dir(reports.path()).expect("runs").flatten().next().expect("a run").path();
    let report = std::fs::read_to_string(run.join("report.json")).expect("a report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    (report["counts"]["attempted"].as_u64().expect("a count"), peak)
}

fn main() {
    let [(few, small), (many, large)] = CASES.map(run);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("{few} requests: peak {:.1} MiB; {many} requests: peak {:.1} MiB", mib(small), mib(large));
    println!(
        "memory at {:.2} with {:.1} times the requests (limit 1.20)",
        large as f64 / small as f64,
        many as f64 / few as f64
    );
}
