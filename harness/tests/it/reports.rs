//! Every report format, as snapshots of three runs, and on text that means harm.

use std::path::Path;

use partywall::cell::{Cell, Lanes, PoolState, Relation};
use partywall::finding::{Cause, Finding, Minimised, OracleId, Place, Reproduced, Witness};
use partywall::plan::Vector;
use partywall::report::terminal::{Terminal, TerminalOptions, summary};
use partywall::report::{Format, to_html, to_json, to_junit, to_markdown, write_all};
use partywall::requirement::Severity;
use partywall::verdict::{
    CellState, CellVerdict, Counts, Judgement, PlanSummary, Report, RequirementVerdict, RunFacts, Verdict,
};

const ROLES: [&str; 3] = ["admin", "auditor", "nobody"];
const OPERATIONS: [&str; 4] = ["list_events", "read_event", "append_event", "export_events"];
const POOLS: [PoolState; 2] =
    [PoolState { pool_size: Some(1), lanes: Lanes::One }, PoolState { pool_size: Some(8), lanes: Lanes::Many }];

fn cells(operations: &[&str], roles: &[&str]) -> Vec<CellVerdict> {
    let mut cells = Vec::new();
    for operation in operations {
        for role in roles {
            for relation in Relation::ALL {
                // A list names no object, so it is neither foreign nor absent.
                if operation.starts_with("list") && relation != Relation::Own {
                    continue;
                }
                for pool_state in POOLS {
                    let (operation, role) = (operation.to_string(), role.to_string());
                    let cell = Cell { operation, role, relation, pool_state };
                    cells.push(CellVerdict { cell, state: CellState::Upheld, judged: 12 });
                }
            }
        }
    }
    cells
}

fn requirement(id: &str, sentence: &str, verdict: Verdict) -> RequirementVerdict {
    let applies = !matches!(verdict, Verdict::NotApplicable(_));
    RequirementVerdict {
        requirement: id.into(),
        sentence: sentence.into(),
        severity: Severity::Critical,
        verdict,
        judged: if applies { 1204 } else { 0 },
        controls: if applies { 301 } else { 0 },
    }
}

fn upheld() -> Report {
    let because = "the target's document has no operation that searches";
    let judgement = Judgement {
        requirements: vec![
            requirement(
                "read/by-id",
                "An object of another tenant, named by its id, is answered as if it did not exist.",
                Verdict::Upheld,
            ),
            requirement(
                "read/list",
                "A list shows all and only the rows of the principal's own tenant.",
                Verdict::Upheld,
            ),
            requirement(
                "read/search",
                "Full-text search finds nothing of another tenant.",
                Verdict::NotApplicable(because.into()),
            ),
            requirement(
                "pool/handover",
                "A connection that served one tenant shows the next nothing of it.",
                Verdict::Upheld,
            ),
        ],
        cells: cells(&OPERATIONS, &ROLES),
        findings: Vec::new(),
        causes: Vec::new(),
        counts: Counts {
            attempted: 4816,
            judged: 4816,
            unusable: 0,
            sightings: 21_877,
            bytes_scanned: 7_340_032,
            rows_judged: 0,
            hand_overs: 0,
            statuses: [("200".into(), 3010), ("401".into(), 602), ("404".into(), 1204)].into(),
        },
    };
    Report {
        run: RunFacts {
            schema_version: 1,
            partywall_version: "0.1.0".into(),
            run_id: "20260102-030405-abcd".into(),
            target: "reference".into(),
            started_at: "2026-01-02T03:04:05Z".into(),
            elapsed_ms: 41_250,
            postgres: "installed binaries, PostgreSQL 17.2".into(),
            notes: vec!["--postgres auto: no URL was given".into()],
            interrupted: false,
            stopped_because: None,
            reproduce: "partywall certify --profile quick --seed 7".into(),
        },
        overall: judgement.overall(),
        plan: PlanSummary {
            seed: 7,
            profile: "quick".into(),
            tenants: 6,
            rows: 12,
            operations: 4,
            roles: 3,
            pool_states: POOLS.iter().map(ToString::to_string).collect(),
        },
        judgement,
    }
}

fn witness(part: &str, actor: &str, status: u16, shows: &[&str]) -> Witness {
    Witness {
        observation: 118,
        part: part.into(),
        actor: actor.into(),
        request: "GET /v1/events/018f4c1e-8a6b-8000-9c3d-000400070001".into(),
        request_body: None,
        status: Some(status),
        pool_state: "pool 1, one connection, connection 2".into(),
        shows: shows.iter().map(ToString::to_string).collect(),
        body_excerpt: Some("{\"id\":\"018f4c1e\",\"action\":\"pw-t4-r7-login\"}".into()),
        curl: "curl -sS -H \"authorization: Bearer $AUDITOR_OF_TENANT_3\" \\\n  \"$BASE_URL/v1/events/018f4c1e-8a6b-8000-9c3d-000400070001\"".into(),
    }
}

fn violated() -> Report {
    let mut report = upheld();
    let finding = Finding {
        id: "f1".into(),
        requirement: "read/by-id".into(),
        oracle: OracleId::CanarySighting,
        severity: Severity::Critical,
        sentence: "auditor of tenant 3 was shown row 7 of events, which is tenant 4's".into(),
        operation: "read_event".into(),
        vector: Vector::Object,
        seen: Place { pool_state: POOLS[0], sequence: 17, position: 0 },
        observer: "auditor of tenant 3".into(),
        owner: Some("tenant 4".into()),
        occurrences: 36,
        found_after_requests: 118,
        found_after_ms: 912,
        witness: vec![
            witness(
                "probe",
                "auditor of tenant 3",
                200,
                &["text canary of tenant 4, events.action, row 7, at byte 120"],
            ),
            witness("control", "auditor of tenant 4", 200, &["the owner reads the same row"]),
        ],
        minimised: Some(Minimised {
            steps: 1,
            tenants: 2,
            reproduced: Reproduced { k: 9, n: 10 },
            cut_short: false,
            folder: "findings/f1".into(),
        }),
    };
    let mut second = Finding {
        id: "f2".into(),
        requirement: "read/list".into(),
        oracle: OracleId::ShadowModel,
        sentence: "the list of admin of tenant 2 lacks 3 of its 12 rows".into(),
        operation: "list_events".into(),
        observer: "admin of tenant 2".into(),
        owner: None,
        occurrences: 1,
        minimised: None,
        ..finding.clone()
    };
    second.witness.truncate(1);
    let probe = &mut second.witness[0];
    probe.observation = 240;
    probe.actor = "admin of tenant 2".into();
    probe.request = "POST /v1/events/search".into();
    probe.request_body = Some("{\"limit\":50}".into());
    probe.status = None;
    probe.shows = vec!["rows 4, 5 and 6 of events are not in the list".into()];
    probe.body_excerpt = None;
    probe.curl = "curl -sS -X POST -d '{\"limit\":50}' \"$BASE_URL/v1/events/search\"".into();
    for verdict in &mut report.judgement.requirements[..2] {
        verdict.verdict = Verdict::Violated;
    }
    for cell in &mut report.judgement.cells {
        let key = &cell.cell;
        let here = key.operation == "read_event" && key.relation == Relation::Foreign;
        if here && key.role == "auditor" && key.pool_state == POOLS[0] {
            cell.state = CellState::Violated;
        }
    }
    let third = Finding { id: "f3".into(), operation: "export_events".into(), ..finding.clone() };
    report.judgement.findings = vec![finding, second, third];
    report.judgement.causes = Cause::of(&report.judgement.findings);
    report.overall = report.judgement.overall();
    report
}

fn interrupted() -> Report {
    let mut report = upheld();
    for (at, cell) in report.judgement.cells.iter_mut().enumerate() {
        if cell.cell.operation == "export_events" {
            let why = ["interrupted before it was driven", "the control was answered 503"];
            cell.state = CellState::Inconclusive(why[at % 2].into());
        }
    }
    report.judgement.requirements[3].verdict = Verdict::Inconclusive("no control succeeded after a handover".into());
    report.run.interrupted = true;
    report.run.stopped_because = Some("interrupted".into());
    report.overall = report.judgement.overall();
    report
}

/// Thirty operations and nine roles.
fn large() -> Report {
    let mut report = upheld();
    let operations: Vec<String> = (1..=30).map(|n| format!("operation_number_{n}")).collect();
    let operations: Vec<&str> = operations.iter().map(String::as_str).collect();
    let roles = ["owner", "admin", "auditor", "writer", "reader", "exporter", "retention", "support", "nobody"];
    report.judgement.cells = cells(&operations, &roles);
    report
}

fn snapshot(format: &str, of: fn(&Report) -> String) {
    for (name, report) in [("upheld", upheld()), ("violated", violated()), ("interrupted", interrupted())] {
        insta::assert_snapshot!(format!("{format}_{name}"), of(&report));
    }
}

#[test]
fn json_is_as_it_was() {
    snapshot("json", to_json);
}

#[test]
fn junit_is_as_it_was() {
    snapshot("junit", to_junit);
}

#[test]
fn markdown_is_as_it_was() {
    snapshot("markdown", to_markdown);
}

#[test]
fn html_is_as_it_was() {
    // The style and the script have files of their own; the snapshot is of the page.
    let between = |text: String, open: &str, close: &str| {
        let (before, rest) = text.split_once(open).expect("the part is there");
        let (_, after) = rest.split_once(close).expect("the part ends");
        format!("{before}{open}…{close}{after}")
    };
    for (name, report) in [("upheld", upheld()), ("violated", violated()), ("interrupted", interrupted())] {
        let page = between(to_html(&report), "<style>", "</style>");
        let page = between(page, "<script>", "</script>");
        let page = between(page, "Content-Security-Policy\" content=\"", "\"");
        insta::assert_snapshot!(format!("html_{name}"), page);
    }
}

#[test]
fn terminal_is_as_it_was() {
    snapshot("terminal", |r| summary(r, Path::new("reports/20260102"), false));
    let coloured = summary(&violated(), Path::new("reports/20260102"), true);
    insta::assert_snapshot!("terminal_colour", coloured.replace('\u{1b}', "␛"));
    insta::assert_snapshot!("terminal_large", summary(&large(), Path::new("reports/20260102"), false));
}

/// Markup, fences, terminal escapes, marks that turn a line around, and what XML cannot hold.
const HARM: &str = "<script>alert(1)</script> ]]> --> | ``` `x` \" ' & ${HOME} [a](javascript:b) https://evil.example \
                    @team \u{0}\u{1b}[2J\u{7}\u{7f}\u{9b}\u{202e}\u{ffff} </pre></details>\r\n# heading\n```\n| a | b |";

/// The violated run with harm in every text that a target, its document or its file can influence.
fn hostile() -> Report {
    let mut report = violated();
    let harm = || HARM.to_owned();
    report.run.target = harm();
    report.run.postgres = harm();
    report.run.notes = vec![harm()];
    report.run.stopped_because = Some(harm());
    report.run.reproduce = harm();
    report.plan.pool_states.push(harm());
    report.judgement.requirements[2].verdict = Verdict::NotApplicable(harm());
    report.judgement.requirements[3].verdict = Verdict::Inconclusive(harm());
    report.judgement.requirements[0].sentence = harm();
    let cell = &mut report.judgement.cells[0];
    cell.cell.operation = harm();
    cell.cell.role = harm();
    cell.state = CellState::Inconclusive(harm());
    for finding in &mut report.judgement.findings {
        finding.sentence = harm();
        finding.observer = harm();
        finding.owner = Some(harm());
        for witness in &mut finding.witness {
            witness.actor = harm();
            witness.request = format!("GET /{HARM}");
            witness.request_body = Some(harm());
            witness.shows = vec![harm()];
            witness.body_excerpt = Some(harm());
            witness.curl = harm();
        }
    }
    report
}

fn assert_no_controls(text: &str) {
    let wild = |c: &char| (c.is_control() && *c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{ffff}');
    assert_eq!(text.chars().find(wild), None);
}

#[test]
fn html_takes_no_harm() {
    let page = to_html(&hostile());
    assert_no_controls(&page);
    assert_eq!(page.matches("<script").count(), 1, "only its own script");
    assert_eq!(page.matches("</script").count(), 1);
    assert!(!page.contains("<script>alert"));
    let opened = page.matches("<details").count();
    assert_eq!(page.matches("</details>").count(), opened);
    assert_eq!(page.matches("</pre>").count(), page.matches("<pre").count());
    for outside in ["src=\"", "href=\"http", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn junit_stays_well_formed() {
    let xml = to_junit(&hostile());
    assert_no_controls(&xml);
    assert!(!xml.contains("<script"));
    let read = quick_junit::Report::deserialize_from_str(&xml).expect("well-formed");
    assert_eq!(read.test_suites.len(), 3);
    assert_eq!(read.failures, 2);
    assert_eq!(read.errors, 2);
}

#[test]
fn markdown_takes_no_harm() {
    let text = to_markdown(&hostile());
    assert_no_controls(&text);
    let mut fence = None;
    let mut blocks = 0;
    for row in text.lines() {
        let ticks = row.chars().take_while(|c| *c == '`').count();
        match fence {
            // As CommonMark has it: at least as many ticks and nothing after them.
            Some(open) if ticks >= open && ticks == row.len() => fence = None,
            Some(_) => {}
            None if ticks >= 3 => {
                fence = Some(ticks);
                blocks += 1;
            }
            None => {
                assert!(!row.contains("<script") && !row.contains("](") && !row.contains('`'), "{row}");
                assert!(!row.contains("://") && !row.contains('@'), "{row}");
                assert!(row.matches("</details>").count() <= 1 && !row.contains("</pre>"), "{row}");
                assert_ne!(row, "# heading");
                if row.starts_with('|') {
                    assert!([3, 5, 6].contains(&row.matches('|').count()), "{row}");
                }
            }
        }
    }
    assert_eq!(fence, None);
    // Three observations with a body, a request's body in one, each with a command; and the run's own command.
    assert_eq!(blocks, 3 * 3 + 1);
}

#[test]
fn terminal_takes_no_harm() {
    assert_no_controls(&summary(&hostile(), Path::new("reports"), false));
}

#[test]
fn json_gives_text_back() {
    let value: serde_json::Value = serde_json::from_str(&to_json(&hostile())).expect("JSON");
    assert_eq!(value["findings"][0]["sentence"], HARM);
}

#[test]
fn a_clean_run_fits_a_screen() {
    let text = summary(&large(), Path::new("reports/20260102"), false);
    assert!(text.lines().count() <= 45, "{}", text.lines().count());
    assert!(text.lines().all(|l| l.chars().count() <= 140));
}

#[test]
fn formats_are_known_by_name() {
    for (word, format) in
        [("html", Format::Html), ("json", Format::Json), ("junit", Format::Junit), ("md", Format::Markdown)]
    {
        assert_eq!(word.parse::<Format>().expect(word), format);
    }
    let error = "htlm".parse::<Format>().expect_err("unknown");
    assert!(error.to_string().contains("did you mean `html`"), "{error}");
}

#[test]
fn files_are_whole_or_not_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let formats = [Format::Html, Format::Json, Format::Junit, Format::Markdown];
    for _ in 0..2 {
        let paths = write_all(&violated(), &formats, dir.path()).expect("written");
        let names: Vec<_> = paths.iter().filter_map(|p| p.file_name()).collect();
        assert_eq!(names, ["report.html", "report.json", "junit.xml", "summary.md"]);
    }
    let left = std::fs::read_dir(dir.path()).expect("the folder").count();
    assert_eq!(left, 4, "no temporary file stays");
    let error = write_all(&violated(), &formats, &dir.path().join("absent")).expect_err("no folder");
    assert!(error.to_string().starts_with("cannot write"), "{error}");
}

#[test]
fn a_terminal_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    shared(&Terminal::new(TerminalOptions::default()));
}
