//! The wiretap against PgBouncer in transaction mode and against no proxy at all, in one run: `pgbench -S` with 8 clients,
//! and reads of 1,000 rows, every row scanned. Rounds are taken in turn, so that the machine's drift cancels out.
//!
//! Limits: at least PgBouncer's throughput in both; less than 100 µs more in the 99th percentile at half of the load that
//! the database bears directly; less than 64 KiB a connection with 1,000 of them, which all are served. Needs `pgbench`;
//! without `pgbouncer` on PATH the ratios to it are left out, and as many connections are opened as the database takes.
//! `WIRETAP_BENCH_S` is how long each round takes, seconds.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use partywall::canary::{Scanner, TimeWindow};
use partywall::postgres::{Options, Postgres, Source};
use partywall::seed::Seed;
use partywall::wiretap::{Binding, Lens, Upstream, Wiretap};

const CLIENTS: &str = "8";
const ROUNDS: usize = 3;
const ROWS_1000: &str =
    "\\set aid random(1, 99000)\nSELECT * FROM pgbench_accounts WHERE aid BETWEEN :aid AND :aid + 999;\n";

/// Where a client may connect.
struct Way {
    name: &'static str,
    url: String,
}

fn main() {
    let seconds = std::env::var("WIRETAP_BENCH_S").ok().and_then(|s| s.parse::<u32>().ok()).unwrap_or(8);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(compare(&seconds.to_string()));
}

async fn compare(seconds: &str) {
    let postgres = Postgres::start(&Source::Auto, &Options::default()).await.expect("a Postgres");
    let direct = postgres.admin_url();
    assert!(pgbench(&["-i", "-q", "-s", "1"], &direct).await.0, "pgbench could not fill its tables");
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("rows.sql");
    std::fs::write(&script, ROWS_1000).expect("a script");
    let window = TimeWindow { start_unix_s: 1_750_000_000, seconds: 26_000_000, owners: 100, rows_per_owner: 100 };
    let lens = Lens::new(
        Scanner::new(Seed(1).canary_key(0), window),
        Binding { settings: vec!["app.tenant_id".into()], functions: Vec::new() },
    );
    let upstream = Upstream::of_url(&direct).expect("a place");
    let tap = Wiretap::listen("127.0.0.1:0".parse().expect("an address"), upstream, lens).await.expect("a wiretap");
    let tapped = partywall::wiretap::through(&direct, tap.address(), false).expect("a URL");
    let mut ways = vec![Way { name: "direct", url: direct.clone() }, Way { name: "wiretap", url: tapped }];
    let bouncer = pgbouncer(&direct, folder.path());
    if let Some((_, url)) = &bouncer {
        ways.push(Way { name: "pgbouncer", url: url.clone() });
    }
    let script = format!("{}", script.display());
    for (name, work) in [
        ("pgbench -S", vec!["-S"]),
        ("pgbench -S -M prepared", vec!["-S", "-M", "prepared"]),
        ("1,000 rows", vec!["-f", script.as_str()]),
    ] {
        // PgBouncer 1.18 keeps no prepared statements in transaction mode.
        let ways = ways.iter().filter(|way| way.name != "pgbouncer" || !work.contains(&"prepared"));
        let ways: Vec<&Way> = ways.collect();
        let mut tps = vec![Vec::new(); ways.len()];
        for _ in 0..ROUNDS {
            for (way, tps) in ways.iter().zip(&mut tps) {
                let mut words = vec!["-n", "-c", CLIENTS, "-j", "2", "-T", seconds];
                words.extend(&work);
                let (ended, told) = pgbench(&words, &way.url).await;
                assert!(ended, "{name} through {}: {told}", way.name);
                tps.push(number(&told, "tps = "));
            }
        }
        let medians: Vec<f64> = tps.into_iter().map(median).collect();
        for (way, median) in ways.iter().zip(&medians) {
            println!("{name}: {:10} {median:9.0} a second, {:.2} of direct", way.name, median / medians[0]);
        }
        if ways.len() == 3 {
            println!("{name}: wiretap at {:.2} of PgBouncer (limit 1.00)", medians[1] / medians[2]);
        }
        if work == ["-S"] {
            latency(&ways, medians[0] / 2.0, seconds, folder.path()).await;
        }
    }
    let (many, behind) = match &bouncer {
        Some((_, url)) => (1_000, url),
        None => (200, &direct),
    };
    connections(many, behind, seconds, folder.path()).await;
    let wire = tap.take();
    println!("{} rows judged", wire.backends.iter().map(|backend| backend.rows).sum::<u64>());
    if let Some((mut child, _)) = bouncer {
        // It ends with the bench in any case.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The 99th percentile of each way at the same rate.
async fn latency(ways: &[&Way], rate: f64, seconds: &str, folder: &Path) {
    let rate = format!("{rate:.0}");
    let mut direct = None;
    for way in ways {
        let prefix = folder.join(format!("log-{}", way.name));
        let prefix_word = format!("--log-prefix={}", prefix.display());
        let words = ["-n", "-S", "-c", CLIENTS, "-j", "2", "-T", seconds, "-R", &rate, "-l", &prefix_word];
        let (ended, told) = pgbench(&words, &way.url).await;
        assert!(ended, "{told}");
        let mut all: Vec<f64> = Vec::new();
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.file_name().to_string_lossy().starts_with(&format!("log-{}", way.name)) {
                let text = std::fs::read_to_string(entry.path()).expect("a log");
                // Client, transaction, time, script, second, microsecond, lag: the time is counted from when it was due.
                all.extend(text.lines().filter_map(|line| {
                    let words: Vec<f64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
                    Some(words.get(2)? - words.get(6)?)
                }));
            }
        }
        all.sort_by(f64::total_cmp);
        let p99 = all.get(all.len() * 99 / 100).copied().unwrap_or(f64::NAN);
        let more = p99 - *direct.get_or_insert(p99);
        println!("half load: {:10} p99 {p99:7.0} µs, {more:+.0} µs", way.name);
    }
}

/// What so many connections cost a wiretap of its own before the database at `behind`, in resident bytes.
async fn connections(many: u64, behind: &str, seconds: &str, folder: &Path) {
    let Some(Upstream::Tcp(host, port)) = Upstream::of_url(behind) else { panic!("a place") };
    let listen = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    // Two files a connection are more than a shell allows.
    let limited = ["-c", "ulimit -n 8192; exec \"$0\" \"$@\""];
    let mut tap = Command::new("sh");
    tap.args(limited).arg(env!("CARGO_BIN_EXE_partywall")).args(["tap", "--listen"]);
    tap.args([&listen.to_string(), "--upstream", &format!("{host}:{port}"), "--tenant-column", "org_id"]);
    tap.args(["--context", "app.tenant_id", "--report-dir"]).arg(folder.join("reports"));
    let mut tap = tap.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a wiretap");
    while TcpStream::connect(listen).is_err() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let resident = |field: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/status", tap.id())).unwrap_or_default();
        number(&text.replace([' ', '\t'], ""), field)
    };
    let before = resident("VmRSS:");
    let url = partywall::wiretap::through(behind, listen, false).expect("a URL");
    let words = format!("ulimit -n 8192; exec pgbench -n -S -c {many} -j 2 -T {seconds} '{url}'");
    let output = tokio::process::Command::new("sh").args(["-c", &words]).output().await.expect("a shell");
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let each = (resident("VmHWM:") - before) / many as f64;
    let _ = (tap.kill(), tap.wait());
    assert!(output.status.success(), "{many} connections: {told}");
    println!("{many} connections: {:.0} a second, {each:.1} KiB each (limit 64)", number(&told, "tps = "));
}

async fn pgbench(words: &[&str], url: &str) -> (bool, String) {
    let output = tokio::process::Command::new("pgbench").args(words).arg(url).output().await.expect("pgbench on PATH");
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&told).into_owned())
}

/// PgBouncer in transaction mode before the same server, if there is one.
fn pgbouncer(direct: &str, folder: &Path) -> Option<(Child, String)> {
    let program = which::which("pgbouncer").ok()?;
    let rest = direct.split_once("://")?.1;
    let (user, place) = rest.rsplit_once('@')?;
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let (place, _) = place.split_once('/')?;
    let (host, port) = place.split_once(':')?;
    let listen = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).ok()?;
    let users = folder.join("users.txt");
    std::fs::write(&users, format!("\"{name}\" \"{password}\"\n")).ok()?;
    let config = format!(
        "[databases]\n* = host={host} port={port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nauth_type = plain\n\
         auth_file = {}\npool_mode = transaction\ndefault_pool_size = 8\nmax_client_conn = 2000\nunix_socket_dir =\n\
         logfile = {}\nignore_startup_parameters = extra_float_digits\n",
        listen.port(),
        users.display(),
        folder.join("pgbouncer.log").display(),
    );
    let path = folder.join("pgbouncer.ini");
    std::fs::write(&path, config).ok()?;
    let mut command = Command::new(program);
    if nix::unistd::Uid::effective().is_root() {
        use std::os::unix::fs::{PermissionsExt, chown};
        let nobody = nix::unistd::User::from_name("nobody").ok()??;
        for file in [folder, &path, &users] {
            chown(file, Some(nobody.uid.as_raw()), None).ok()?;
        }
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).ok()?;
        command.args(["-u", "nobody"]);
    }
    let child = command.arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    std::thread::sleep(Duration::from_millis(800));
    Some((child, format!("postgres://{user}@{listen}/postgres")))
}

fn number(text: &str, after: &str) -> f64 {
    let rest = text.split(after).nth(1).unwrap_or_default();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().unwrap_or(f64::NAN)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
