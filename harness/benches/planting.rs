//! Planting through binary COPY, canaries minted on the way, against `psql \copy` of the same rows as CSV into the same
//! table. Limit: 1.5 times or more of `\copy`. Needs a Postgres and psql; nothing is measured without them.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use partywall::canary::{Canary, Mint, Owner, TimeWindow};
use partywall::postgres::{Options, Postgres, Source};
use partywall::seed::Seed;
use partywall::target::copy::{Field, copy_in, execute};
use partywall::target::database::connect;
use partywall::tenant::rfc3339;

const TENANTS: u32 = 1_000;
const ROWS: u32 = 300;
const ROUNDS: usize = 5;
const COLUMNS: [&str; 8] =
    ["tenant_id", "id", "occurred_at", "actor_email", "action", "target_id", "source_ip", "details"];
const TABLE: &str = "CREATE UNLOGGED TABLE planted (tenant_id uuid, id uuid, occurred_at timestamptz, actor_email text, \
                     action text, target_id text, source_ip inet, details jsonb)";

fn mint() -> Mint {
    let window = TimeWindow { start_unix_s: 1_750_000_000, seconds: 26_000_000, owners: TENANTS, rows_per_owner: ROWS };
    Mint::new(Seed(1).canary_key(0), window)
}

fn row(mint: &Mint, owner: u32, row: u32) -> Vec<Field> {
    let canary = |column| Canary { owner: Owner::new(owner), row, column };
    vec![
        Field::Uuid(mint.uuid(Canary { row: 0, ..canary(0) })),
        Field::Uuid(mint.uuid(canary(1))),
        mint.timestamp_us(canary(2)).map_or(Field::Null, Field::Time),
        Field::Text(mint.email(canary(3))),
        Field::Text(mint.text(canary(4))),
        Field::Text(mint.text(canary(5))),
        Field::Inet(mint.inet(canary(6))),
        Field::Json(mint.json(canary(7))),
    ]
}

fn rows(mint: &Mint) -> impl Iterator<Item = Vec<Field>> + '_ {
    (0..TENANTS).flat_map(move |owner| (0..ROWS).map(move |n| row(mint, owner, n)))
}

fn csv(mint: &Mint) -> String {
    let mut text = String::new();
    for fields in rows(mint) {
        let cells = fields.iter().map(|field| match field {
            Field::Uuid(id) => id.to_string(),
            Field::Text(text) => text.clone(),
            Field::Time(us) => rfc3339(*us),
            Field::Inet(address) => address.to_string(),
            Field::Json(value) => format!("\"{}\"", value.to_string().replace('"', "\"\"")),
            _ => String::new(),
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join(","));
    }
    text
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let postgres = Postgres::start(&Source::Auto, &Options::default()).await.expect("a Postgres");
        let url = postgres.admin_url();
        let mut connection = connect(&url).await.expect("a connection");
        execute(&mut connection, TABLE).await.expect("a table");
        let mint = mint();
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), csv(&mint)).expect("the rows as CSV");
        let columns = COLUMNS.map(String::from);
        let mut ratios = Vec::new();
        for round in 0..ROUNDS {
            execute(&mut connection, "TRUNCATE planted").await.expect("an empty table");
            let start = Instant::now();
            let written = copy_in(&mut connection, "planted", &columns, rows(&mint).map(Ok)).await.expect("planted");
            let ours = start.elapsed().as_secs_f64();
            assert_eq!(written, u64::from(TENANTS * ROWS));
            execute(&mut connection, "TRUNCATE planted").await.expect("an empty table");
            let start = Instant::now();
            let copied = Command::new("psql")
                .args(["-X", "-q", "-d", &url, "-c"])
                .arg(format!("\\copy planted FROM '{}' (FORMAT csv)", file.path().display()))
                .stdout(Stdio::null())
                .status()
                .expect("psql");
            let theirs = start.elapsed().as_secs_f64();
            assert!(copied.success(), "psql \\copy");
            println!(
                "round {round}: planting {:.0} rows/s, \\copy {:.0} rows/s",
                written as f64 / ours,
                written as f64 / theirs
            );
            ratios.push(theirs / ours);
        }
        ratios.sort_by(f64::total_cmp);
        println!("planting at {:.2} of psql \\copy (limit 1.50), minting included", ratios[ROUNDS / 2]);
        postgres.stop().await;
    });
}
