//! The steps of `reproduce.sh`: each a call of curl, and what later ones take from its answer.

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::quoted;
use crate::placeholder;
use crate::plan::{COOKIE, HEADER, Plan, Proof, STREAM_ID, Step};
use crate::principal::NOBODY;
use crate::target::credential::Credential;
use crate::target::file::ListShape;
use crate::target::http;

/// Pages that a walk follows.
const PAGES_MAX: u32 = 50;
/// The run's password.
const PASSWORD: &str = "password";

/// What the script has to be given: name of the variable, and what it holds.
pub(super) type Variables = BTreeMap<String, String>;

/// The commands that send `step` and keep its answer. What is in none of the answers, which yield `captured`, is asked for.
pub(super) fn sent(plan: &Plan, step: &Step, captured: &BTreeSet<&str>, variables: &mut Variables) -> String {
    let request = &step.request;
    for text in request.clone().texts() {
        for name in placeholder::names(text).filter(|name| *name != PASSWORD && !captured.contains(name)) {
            variables.insert(variable(name), format!("the value of {name}"));
        }
    }
    let mut words = vec![format!("curl -sS -i -X {}", request.method)];
    // A credential that goes into the query.
    let mut asked = Vec::new();
    if step.actor.role != NOBODY
        && request.proof != Proof::Issued
        && let Some(role) = plan.target.role(&step.actor.role)
        && let Some(credential) = plan.target.credential.get(&role.credential)
    {
        let token = credential_of(step, credential, variables);
        for place in credential.send().places() {
            let place = place.replace("{token}", &token);
            match place.strip_prefix('?') {
                Some(parameter) => asked.push(parameter.to_string()),
                None => words.push(format!("-H \"{place}\"")),
            }
        }
    }
    for (name, value) in &request.headers {
        words.push(format!("-H {}", filled(&format!("{name}: {value}"))));
    }
    if let Some((content_type, body)) = &request.body {
        if body.contains(&placeholder::of(PASSWORD)) {
            variables.insert(variable(PASSWORD), "the password of every planted person".into());
        }
        let body = filled_json(body, captured);
        words.push(format!("-H {} --data-binary {body}", quoted(&format!("Content-Type: {content_type}"))));
    }
    let kept = std::cell::RefCell::new(Vec::new());
    let url = http::url_of(request, &|text| held(text, &mut kept.borrow_mut()));
    let url = kept
        .into_inner()
        .iter()
        .fold(quoted(&url), |url, word| url.replace(&holder(word), &format!("'\"$(escaped \"{}\")\"'", value(word))));
    let joint = |url: &str| if url.contains('?') { '&' } else { '?' };
    let url = asked.iter().fold(url, |url, parameter| format!("{url}\"{}{parameter}\"", joint(&url)));
    let (limit, or) = match step.abandon_after {
        // The client goes away early, as in the run; what the exchange took then is not known here.
        Some(_) => (" --max-time 0.01", "answer="),
        None => ("", "unanswered"),
    };
    let curl = format!("{}{limit} \"$BASE_URL\"{url}", words.join(" "));
    let shape = plan.target.access(&step.cell.operation).and_then(|a| a.list.as_ref()).filter(|_| step.walk);
    answered(&curl, or, shape.and_then(|shape| goes_on(shape, joint(&url))))
}

/// Sends a request, page by page where it goes on.
fn answered(curl: &str, or: &str, goes_on: Option<String>) -> String {
    match goes_on {
        None => format!("answer=$({curl}) || {or}\n"),
        Some(goes_on) => format!(
            "pages=\nread=0\non=\nfor page in $(seq {PAGES_MAX}); do\n  answer=$({curl}\"$on\") || {or}\n  \
             pages=\"$pages$answer\"\n{goes_on}done\nanswer=$pages\n"
        ),
    }
}

/// What asks for the next page of a list: `$on` is put behind the address.
fn goes_on(shape: &ListShape, joint: char) -> Option<String> {
    let last = |pointer: &str| pointer.rsplit('/').next().unwrap_or(pointer).to_string();
    if let (Some(next), Some(cursor)) = (&shape.next, &shape.cursor) {
        return Some(format!(
            "  cursor=$(field {})\n  case $cursor in\n    '' | null) break ;;\n    \
             *\\?*) on=$(printf '%s' \"$cursor\" | sed -n 's/.*[?&]{cursor}=\\([^&]*\\).*/\\1/p') ;;\n    \
             *) on=$(escaped \"$cursor\") ;;\n  esac\n  on=\"{joint}{cursor}=$on\"\n",
            quoted(&last(next))
        ));
    }
    let by_rows = shape.offset.as_ref().map(|name| (name, "$read"));
    let (name, next) = by_rows.or_else(|| shape.page.as_ref().map(|name| (name, "$((page + 1))")))?;
    Some(format!(
        "  new=$(rows {})\n  read=$((read + new))\n  [ \"$new\" -gt 0 ] || break\n  on=\"{joint}{name}={next}\"\n",
        quoted(&last(&shape.items))
    ))
}

/// The shell's expression for the credential of a step, which is to be given.
fn credential_of(step: &Step, credential: &Credential, variables: &mut Variables) -> String {
    let what = match credential {
        Credential::Login { path, .. } => format!("token from POST {path} of the {}", step.actor),
        Credential::Secret { prefix, .. } if !prefix.is_empty() => {
            format!("secret of the {}, {prefix} included", step.actor)
        }
        _ => format!("credential of the {}", step.actor),
    };
    let name = step.actor.token_variable();
    let (name, what) = match &step.request.proof {
        Proof::Malformed => return "not.a.credential".into(),
        Proof::AsIssued => (name, what),
        proof => (format!("{name}_{}", proof.word().to_uppercase()), format!("{what}, {}", proof.word())),
    };
    variables.insert(name.clone(), what);
    format!("${{{name}}}")
}

/// The commands that keep what later steps take from the answer.
pub(super) fn taken(step: &Step) -> String {
    taken_of(&step.captures)
}

fn taken_of(captures: &BTreeMap<String, String>) -> String {
    let keep = |(name, place): (&String, &String)| {
        let name = variable(name);
        let by = |kind: &str, of: &str| format!("{name}=$({kind} {})\n{name}_json=\\\"${name}\\\"\n", quoted(of));
        if let Some(header) = place.strip_prefix(HEADER) {
            return by("header", header);
        }
        if let Some(cookie) = place.strip_prefix(COOKIE) {
            return by("cookie", cookie);
        }
        if place == STREAM_ID {
            return by("stream_id", "");
        }
        let field = quoted(place.rsplit('/').next().unwrap_or(place));
        format!("{name}=$(field {field})\n{name}_json=$(literal {field})\n")
    };
    captures.iter().map(keep).collect()
}

/// The shell's name for a value.
fn variable(name: &str) -> String {
    match name {
        PASSWORD => "PASSWORD".into(),
        name => format!("captured_{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")),
    }
}

/// The shell's expression for a placeholder, with its change made.
fn value(word: &str) -> String {
    let (name, change) = word.split_once('|').unwrap_or((word, ""));
    let plain = format!("${{{}}}", variable(name));
    if change.is_empty() { plain } else { format!("$(changed {change} \"{plain}\")") }
}

/// What stands for a value while what is around it is encoded.
fn holder(word: &str) -> String {
    format!("Captured{}End", hex::encode(word))
}

/// `text` with holders for placeholders, whose words go to `words`.
fn held(text: &str, words: &mut Vec<String>) -> String {
    let mut out = String::new();
    for (place, part) in text.split('⟦').enumerate() {
        match part.split_once('⟧').filter(|_| place > 0) {
            Some((word, rest)) => {
                words.push(word.into());
                out += &holder(word);
                out += rest;
            }
            None => out += part,
        }
    }
    out
}

/// A word for the shell with all values filled in.
fn filled(text: &str) -> String {
    let mut words = Vec::new();
    let text = quoted(&held(text, &mut words));
    words.iter().fold(text, |text, word| text.replace(&holder(word), &format!("'\"{}\"'", value(word))))
}

/// The same for a JSON body, where what the service writes as a number stands as one.
fn filled_json(body: &str, captured: &BTreeSet<&str>) -> String {
    let mut words = Vec::new();
    let text = quoted(&held(body, &mut words));
    words.iter().fold(text, |text, word| {
        let whole = match word.as_str() {
            PASSWORD => format!("\\\"{}\\\"", value(word)),
            name if captured.contains(name) => format!("${{{}_json}}", variable(name)),
            _ => format!("$(json \"{}\")", value(word)),
        };
        let text = text.replace(&format!("\"{}\"", holder(word)), &format!("'\"{whole}\"'"));
        text.replace(&holder(word), &format!("'\"{}\"'", value(word)))
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::reproduce::PRELUDE;
    use super::*;

    /// Five rows, two a page; the words in them would deceive who counts commas and brackets.
    const SERVICE: &str = r#"
curl() {
  case $1 in
    *skip=*) from=${1##*skip=} ;;
    *p=*) from=$(((${1##*p=} - 1) * 2)) ;;
    *after=b%3D) from=4 ;;
    *after=a) from=2 ;;
    *) from=0 ;;
  esac
  case $from in
    0) next='"a"' ;;
    2) next='"/rows?x=1&after=b%3D"' ;;
    *) next=null ;;
  esac
  printf 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"data":['
  comma=
  for n in $((from + 1)) $((from + 2)); do
    [ "$n" -gt 5 ] || { printf '%s{"id":%s,"tags":["a, b]","c"]}' "$comma" "$n"; comma=,; }
  done
  printf '],"next":%s}' "$next"
}
"#;

    /// What a shell prints that runs `script` behind the prelude.
    fn printed(script: &str) -> String {
        let output = Command::new("sh").arg("-c").arg(format!("{PRELUDE}{script}")).output().expect("a shell");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && told.is_empty(), "{told}\n{script}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[test]
    fn lists_are_followed_however_they_go_on() {
        let shape = |text: &str| toml::from_str::<ListShape>(text).expect(text);
        for shape in [
            shape("items = '/data'\noffset = 'skip'"),
            shape("items = '/data'\npage = 'p'"),
            shape("items = '/data'\nnext = '/next'\ncursor = 'after'"),
        ] {
            let walk = answered("curl 'http://x/rows?a=1'", "unanswered", goes_on(&shape, '&'));
            let told = printed(&format!("{SERVICE}{walk}printf '%s' \"$answer\""));
            for id in 1..=5 {
                assert_eq!(told.matches(&format!("\"id\":{id}")).count(), 1, "row {id} of {shape:?}: {told}");
            }
        }
    }

    #[test]
    fn numbers_stand_in_a_body_as_the_service_writes_them() {
        let step = |place: &str| {
            let mut captures = BTreeMap::new();
            captures.insert("made".to_string(), place.to_string());
            taken_of(&captures)
        };
        let body = r#"{"ids":["⟦made⟧","⟦made|altered⟧"],"by":"⟦tasks.id of 0/1⟧","note":"see ⟦made⟧"}"#;
        let filled = filled_json(body, &["made"].into());
        let sent = |answer: &str, place: &str| {
            let planted = variable("tasks.id of 0/1");
            let answer =
                quoted(&format!("HTTP/1.1 201 Created\r\netag: t1\r\nSet-Cookie: s=abc; HttpOnly\r\n\r\n{answer}"));
            let script = format!("answer={answer}\n{planted}=7001\n{}printf '%s' {filled}", step(place));
            printed(&script).replace(",\"by\":7001", "")
        };
        let is = |made: &str, text: &str| format!(r#"{{"ids":[{made}],"note":"see {text}"}}"#);
        assert_eq!(sent(r#"{"id": 17}"#, "/data/id"), is(r#"17,"1A""#, "17"));
        assert_eq!(sent(r#"{"id":"17x"}"#, "/id"), is(r#""17x","1Ax""#, "17x"));
        assert_eq!(sent("{}", "header:etag"), is(r#""t1","tA""#, "t1"));
        assert_eq!(sent("{}", "cookie:s"), is(r#""abc","aAc""#, "abc"));
    }
}
