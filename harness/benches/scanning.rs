//! Scanning for canaries: against memchr's memmem on the same bytes, and with few and many tenants.
//!
//! Limits: half of memmem's speed or more; the same cost with 10 and with 100,000 tenants, within 10 %.

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memchr::memmem::Finder;
use partywall::canary::{Canary, Mint, Owner, Scanner, TimeWindow};
use partywall::seed::Seed;
use rand::Rng;

const BYTES: usize = 16 << 20;
const ROUNDS: usize = 15;

fn window(owners: u32) -> TimeWindow {
    TimeWindow { start_unix_s: 1_750_000_000, seconds: 26_000_000, owners, rows_per_owner: 100 }
}

/// Audit events as JSON; one row in `every` is planted.
fn traffic(every: u32) -> Vec<u8> {
    let mut rng = Seed(1).stream("bench", 0);
    let mint = Mint::new(Seed(1).canary_key(0), window(10));
    let mut text = String::with_capacity(BYTES + 1024);
    let mut row = 0;
    while text.len() < BYTES {
        row += 1;
        let canary = Canary { owner: Owner::new(row % 10), row: row % 100, column: 3 };
        let (id, name, email) = if row.is_multiple_of(every) {
            (mint.uuid(canary), mint.text(canary), mint.email(canary))
        } else {
            let id = uuid::Uuid::from_u128(rng.random());
            (id, format!("user {id}"), format!("{}@example.com", rng.random::<u32>()))
        };
        text.push_str(&format!(
            "{{\"id\":\"{id}\",\"occurred_at\":\"2026-10-{:02}T11:{:02}:09.{:06}Z\",\"actor\":{{\"email\":\"{email}\",\
             \"name\":\"{name}\"}},\"action\":\"document.shared\",\"outcome\":\"success\",\"user_agent\":\"Mozilla/5.0 (X11; \
             Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\",\"n\":{}}},",
            row % 28 + 1,
            row % 60,
            rng.random_range(0..1_000_000),
            rng.random::<u32>()
        ));
    }
    text.into_bytes()
}

fn scan(scanner: &Scanner, bytes: &[u8]) -> u64 {
    let mut seen = 0;
    scanner.scan(black_box(bytes), &mut |_| seen += 1);
    seen
}

fn memmem(finder: &Finder<'_>, bytes: &[u8]) -> u64 {
    finder.find_iter(black_box(bytes)).count() as u64
}

fn seconds(work: impl FnOnce() -> u64) -> f64 {
    let start = Instant::now();
    black_box(work());
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Ratios of times taken in turn, so that the machine's drift cancels out.
fn ratio(mut a: impl FnMut() -> u64, mut b: impl FnMut() -> u64) -> f64 {
    median((0..ROUNDS).map(|_| seconds(&mut a) / seconds(&mut b)).collect())
}

fn scanning(criterion: &mut Criterion) {
    let key = Seed(1).canary_key(0);
    let (few, many) = (Scanner::new(key, window(10)), Scanner::new(key, window(100_000)));
    let finder = Finder::new("3333");
    for (name, every) in [("one row in 200 planted", 200), ("every row planted", 1)] {
        let bytes = traffic(every);
        let mut group = criterion.benchmark_group(name);
        group.sample_size(20).throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("memmem", |b| b.iter(|| memmem(&finder, &bytes)));
        group.bench_function("scan, 10 tenants", |b| b.iter(|| scan(&few, &bytes)));
        group.bench_function("scan, 100,000 tenants", |b| b.iter(|| scan(&many, &bytes)));
        group.finish();
        let speed = 1.0 / ratio(|| scan(&few, &bytes), || memmem(&finder, &bytes));
        let growth = ratio(|| scan(&many, &bytes), || scan(&few, &bytes));
        println!(
            "{name}: scan at {speed:.2} of memmem (limit 0.50); 100,000 tenants cost {growth:.2} of 10 (limit 1.10)"
        );
    }
}

criterion_group!(benches, scanning);
criterion_main!(benches);
