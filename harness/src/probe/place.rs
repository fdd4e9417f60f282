//! Where trials are done: a copy of the database made for them, one transaction that is never kept, or a transaction that
//! may not write. A database that nobody called theirs is never written to.

use sqlx::PgConnection;

use super::schema::{json, settings_of};
use super::session::{Identity, Session};
use super::subject::literal;
use crate::error::{Error, Result};
use crate::target::copy::{execute, quoted};
use crate::target::database::{close, connect};

use super::engine::Door;

/// The mark, in the comment of a database, that it may be written to.
pub const MARK: &str = "partywall may write here";
/// What the names of copies begin with, and their comments.
const COPY: &str = "partywall_probe_";
const COPY_MARK: &str = "a copy that partywall probe made, of ";

/// How much a run may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A copy where one can be made, else a transaction.
    Auto,
    /// A copy, or nothing.
    Copy,
    /// One transaction, rolled back.
    Rollback,
    /// Reads alone.
    ReadOnly,
}

/// What is asked for.
#[derive(Clone)]
pub struct Asked {
    /// The database, by a role that owns it or bypasses row security; it may hold a password.
    pub url: String,
    /// The application's database role.
    pub role: String,
    /// The database as that role, where it can sign in.
    pub as_url: Option<String>,
    /// How much may be done.
    pub mode: Mode,
    /// The name of a database that the caller says is theirs.
    pub owned: Option<String>,
}

/// Where a run happens.
pub struct Place {
    /// How to connect.
    pub door: Door,
    /// How much may be done, settled.
    pub mode: Mode,
    /// What a reader should know of it.
    pub notes: Vec<String>,
    /// The database's name.
    pub database: String,
    /// The copy's name, and the connection to remove it from, which holds its lock as long as this process lives.
    copy: Option<(PgConnection, String)>,
}

impl Place {
    /// Finds a place, and makes the copy where there is to be one.
    ///
    /// # Errors
    /// Nobody answers, the role cannot be taken, or nothing may be written.
    pub async fn open(asked: &Asked) -> Result<Self> {
        let mut connection = connect(&asked.url).await?;
        let facts: Facts = json(&mut connection, FACTS).await?;
        let mut notes = Vec::new();
        let settings = settings_of(&mut connection, &asked.role).await?;
        let identity = identity(&mut connection, asked, &facts, &mut notes).await?;
        close(connection).await?;
        let read_only = asked.mode == Mode::ReadOnly;
        if facts.standby && !read_only {
            return Err(Error::Usage(
                "the server is a standby and takes no writes; probe it with --read-only, or probe the primary".into(),
            ));
        }
        let mut place = Self {
            door: Door { url: asked.url.clone(), as_url: asked.as_url.clone(), identity, settings },
            mode: asked.mode,
            notes,
            database: facts.database.clone(),
            copy: None,
        };
        let refused = match asked.mode {
            Mode::ReadOnly | Mode::Rollback => None,
            Mode::Auto | Mode::Copy => place.make_copy(&asked.url, asked.as_url.as_deref()).await.err(),
        };
        match (asked.mode, refused) {
            (Mode::ReadOnly, _) => {}
            (Mode::Auto | Mode::Copy, None) => place.mode = Mode::Copy,
            (Mode::Copy, Some(why)) => return Err(why),
            (_, why) => {
                let why = why.map_or_else(String::new, |why| format!("{why}. "));
                let theirs = facts.comment.contains(MARK) || asked.owned.as_deref() == Some(&facts.database);
                if !theirs {
                    return Err(Error::Usage(format!(
                        "{why}The database {0} does not say that it may be written to, and a transaction that is rolled back \
                         writes all the same: give --i-own-this-database {0}, or probe it with --read-only",
                        facts.database
                    )));
                }
                place.mode = Mode::Rollback;
                place
                    .notes
                    .push(format!("{why}All happens in one transaction of {} that is rolled back.", facts.database));
            }
        }
        Ok(place)
    }

    async fn make_copy(&mut self, url: &str, as_url: Option<&str>) -> Result<()> {
        let name = format!("{COPY}{}", crate::seed::secret(4));
        // No one may be connected to what is copied, ourselves included.
        let elsewhere =
            ["postgres", "template1"].into_iter().find(|other| *other != self.database).unwrap_or("postgres");
        let admin = crate::postgres::with_database(url, elsewhere);
        let mut connection = connect(&admin).await?;
        self.notes.extend(clear(&mut connection).await?);
        execute(&mut connection, &format!("SELECT pg_advisory_lock(hashtext({}))", literal(&name))).await?;
        let statement = format!("CREATE DATABASE {} TEMPLATE {}", quoted(&name), quoted(&self.database));
        execute(&mut connection, &statement).await.map_err(|error| {
            let why = error.to_string();
            let why = why.split(" (in `").next().unwrap_or_default().trim_start_matches("SQL failed: ").to_string();
            let others = if why.contains("being accessed") {
                ": somebody is connected to it, and Postgres copies only what nobody uses"
            } else {
                ""
            };
            Error::Usage(format!("no copy of {} can be made{others} ({why})", self.database))
        })?;
        let comment = literal(&format!("{COPY_MARK}{}", self.database));
        execute(&mut connection, &format!("COMMENT ON DATABASE {} IS {comment}", quoted(&name))).await?;
        self.door.url = crate::postgres::with_database(url, &name);
        self.door.as_url = as_url.map(|url| crate::postgres::with_database(url, &name));
        self.copy = Some((connection, name));
        Ok(())
    }

    /// The privileged connection, in its one transaction where there is to be one.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn session(&self) -> Result<Session> {
        let mut session = Session::open(&self.door.url, self.door.identity.clone(), &self.door.settings).await?;
        if matches!(self.mode, Mode::Rollback | Mode::ReadOnly) {
            session.stay_within(self.mode == Mode::ReadOnly).await?;
        }
        Ok(session)
    }

    /// Removes the copy.
    ///
    /// # Errors
    /// The server says no.
    pub async fn close(&mut self) -> Result<()> {
        let Some((mut connection, name)) = self.copy.take() else { return Ok(()) };
        execute(&mut connection, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&name))).await?;
        close(connection).await
    }
}

/// Removes copies that a probe left behind which was killed: nobody is connected to them, and nobody holds their lock.
async fn clear(connection: &mut PgConnection) -> Result<Vec<String>> {
    let left = format!(
        "SELECT coalesce(json_agg(json_build_array(d.datname, shobj_description(d.oid, 'pg_database'))), '[]')::text
         FROM pg_database d WHERE starts_with(d.datname, '{COPY}')
           AND starts_with(shobj_description(d.oid, 'pg_database'), '{COPY_MARK}')
           AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)"
    );
    let left: Vec<(String, String)> = json(connection, &left).await?;
    let mut notes = Vec::new();
    for (name, comment) in left {
        let key = format!("hashtext({})", literal(&name));
        let lock = format!("SELECT json_build_array(pg_try_advisory_lock({key}))::text");
        if json::<Vec<bool>>(connection, &lock).await?.first() != Some(&true) {
            continue;
        }
        let of = comment.trim_start_matches(COPY_MARK);
        let dropped = execute(connection, &format!("DROP DATABASE {}", quoted(&name))).await;
        notes.push(match dropped {
            Ok(()) => format!("{name}, a copy of {of} that an earlier probe left behind, was removed."),
            Err(_) => {
                format!("{name}, a copy of {of} that an earlier probe left behind, could not be removed: drop it.")
            }
        });
        execute(connection, &format!("SELECT pg_advisory_unlock({key})")).await?;
    }
    Ok(notes)
}

#[derive(serde::Deserialize)]
struct Facts {
    database: String,
    comment: String,
    user: String,
    superuser: bool,
    bypasses: bool,
    standby: bool,
}

const FACTS: &str = "SELECT json_build_object('database', current_database(), 'user', current_user,
  'comment', coalesce((SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()), ''),
  'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
  'bypasses', (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user),
  'standby', pg_is_in_recovery())::text";

/// How the privileged connection takes the application's role.
async fn identity(
    connection: &mut PgConnection,
    asked: &Asked,
    facts: &Facts,
    notes: &mut Vec<String>,
) -> Result<Identity> {
    let role = &asked.role;
    let known: Vec<String> = json(connection, "SELECT json_agg(rolname)::text FROM pg_roles").await?;
    if !known.contains(role) {
        return Err(crate::error::unknown("database role", role, known.iter().map(String::as_str)));
    }
    if !facts.bypasses {
        notes.push(format!(
            "{} does not bypass row security: what it cannot see cannot be looked at after a write.",
            facts.user
        ));
    }
    if let Some(url) = &asked.as_url {
        let mut own = connect(url).await?;
        let user: Vec<String> = json(&mut own, "SELECT json_build_array(session_user)::text").await?;
        close(own).await?;
        if user.first() != Some(role) {
            return Err(Error::Usage(format!("--as-url signs in as {}, and --as names {role}", user.concat())));
        }
        notes.push("What is looked at after a write is written under SET SESSION AUTHORIZATION; all else on connections of the role's own.".into());
    }
    if facts.superuser {
        if asked.as_url.is_none() {
            notes.push(format!(
                "The role is taken by SET SESSION AUTHORIZATION {role}, its settings with it; --as-url signs in as it."
            ));
        }
        return Ok(Identity::Authorization(role.clone()));
    }
    execute(connection, &format!("BEGIN; SET LOCAL ROLE {}; ROLLBACK", quoted(role))).await.map_err(|_| {
        Error::Usage(format!(
            "{} cannot become {role}: GRANT {} TO {} first, or connect as a superuser",
            facts.user,
            quoted(role),
            quoted(&facts.user)
        ))
    })?;
    notes.push(format!(
        "The role is taken by SET ROLE {role}: session_user stays {}, and what depends on it is not tried.",
        facts.user
    ));
    Ok(Identity::Role(role.clone()))
}
