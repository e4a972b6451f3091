//! `boss admin`: what only somebody with access to the database may do.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use boss::auth::password;
use boss::clock::{Clock as _, SystemClock};
use boss_api::Name;
use boss_api::ids::{ProjectId, UserId};
use boss_api::user::UserRole;
use boss_db::projects::ProjectRole;
use boss_db::users::NewUser;
use boss_db::{DbError, PgPool, keys, projects, users};
use clap::{Subcommand, ValueEnum};
use sigs::seal::{KeyId, PublicKey};
use uuid::Uuid;

use super::say;

/// What to manage
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Manage users
    User {
        #[command(subcommand)]
        command: User,
    },
    /// Manage projects
    Project {
        #[command(subcommand)]
        command: Project,
    },
    /// Manage the keys that base images are believed by
    Key {
        #[command(subcommand)]
        command: Key,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Add a user, or give a known one another password
    Add {
        /// A lower-case letter, then lower-case letters, digits and hyphens
        name: Name,
        /// What the user may do on the site
        #[arg(long, value_enum, default_value_t = Role::Member)]
        role: Role,
        /// A project to join; may be given several times
        #[arg(long)]
        project: Vec<Name>,
        /// A project to join as a leader, who may also give up what could not be saved; may be given several times
        #[arg(long, value_name = "PROJECT")]
        leads: Vec<Name>,
        /// The file whose first line is the password; - reads standard input
        #[arg(long)]
        password_file: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    Member,
    Operator,
    Admin,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Project {
    /// Add a project; one that is there stays as it is
    Add {
        /// Its name
        pid: Name,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Trust a key: base images sealed with it may be registered and loaded
    Add {
        /// The public half, in PEM
        file: PathBuf,
        /// Whose it is
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Trust a key no more: agents refuse the images it sealed, also under states saved against them
    Retire {
        /// The key's id, as `key list` shows it
        id: KeyId,
    },
    /// List the keys
    List,
}

/// Runs one of them, each in one transaction.
pub(crate) async fn run(command: Command, pool: &PgPool) -> anyhow::Result<()> {
    super::migrate(pool).await?;
    match command {
        Command::User { command: User::Add { name, role, project, leads, password_file } } => {
            let members = project.into_iter().map(|pid| (pid, ProjectRole::Member));
            let leaders = leads.into_iter().map(|pid| (pid, ProjectRole::Leader));
            add_user(pool, &name, role, &members.chain(leaders).collect::<Vec<_>>(), &password_file).await
        }
        Command::Project { command: Project::Add { pid } } => {
            let mut tx = pool.begin().await?;
            projects::ensure(&mut tx, ProjectId::new(Uuid::now_v7()), &pid, SystemClock.now()).await?;
            tx.commit().await?;
            say(&format!("project {pid}"))
        }
        Command::Key { command: Key::Add { file, comment } } => add_key(pool, &file, &comment).await,
        Command::Key { command: Key::Retire { id } } => {
            let mut tx = pool.begin().await?;
            match keys::retire(&mut tx, id, SystemClock.now()).await {
                Ok(()) => tx.commit().await?,
                Err(DbError::LostRace { .. }) => bail!("no trusted key {id}: `boss admin key list` shows all"),
                Err(error) => return Err(error.into()),
            }
            say(&format!("key {id} is retired"))
        }
        Command::Key { command: Key::List } => {
            let mut conn = pool.acquire().await?;
            for key in keys::all(&mut conn).await? {
                let state = if key.retired_at.is_some() { "retired" } else { "trusted" };
                say(&format!("{}  {state}  {}", key.id, key.comment))?;
            }
            Ok(())
        }
    }
}

async fn add_user(
    pool: &PgPool,
    name: &Name,
    role: Role,
    memberships: &[(Name, ProjectRole)],
    password_file: &Path,
) -> anyhow::Result<()> {
    let hash = password::hash(&read_password(password_file)?)?;
    let role = match role {
        Role::Member => UserRole::Member,
        Role::Operator => UserRole::Operator,
        Role::Admin => UserRole::Admin,
    };
    let now = SystemClock.now();
    let mut tx = pool.begin().await?;
    let id = match users::find(&mut tx, name).await? {
        Some(user) if user.role == role => {
            users::set_password(&mut tx, user.id, &hash).await?;
            user.id
        }
        Some(user) => bail!("user {name} is there with the role {:?}; a role is not changed by adding", user.role),
        None => {
            let id = UserId::new(Uuid::now_v7());
            users::add(&mut tx, NewUser { id, name, password_hash: &hash, role, at: now }).await?;
            id
        }
    };
    for (pid, role) in memberships {
        let Some(project) = projects::find(&mut tx, pid).await? else {
            bail!("there is no project {pid}: make it with `boss admin project add {pid}`; nothing was changed");
        };
        projects::add_member(&mut tx, project.id, id, *role).await?;
    }
    tx.commit().await?;
    say(&format!("user {name}"))
}

/// Reads the first line of a file, or of standard input; passwords never travel in arguments.
fn read_password(file: &Path) -> anyhow::Result<String> {
    const MOST: u64 = 4096;
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().take(MOST).read_to_string(&mut text).context("read the password")?;
    } else {
        let file_open = std::fs::File::open(file);
        let read = file_open.and_then(|open| open.take(MOST).read_to_string(&mut text));
        read.with_context(|| format!("read the password from {}", file.display()))?;
    }
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

async fn add_key(pool: &PgPool, file: &Path, comment: &str) -> anyhow::Result<()> {
    let pem = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let key = PublicKey::from_pem(&pem)
        .with_context(|| format!("{}: give the public half, as `ebb key new` writes it to FILE.pub", file.display()))?;
    let mut tx = pool.begin().await?;
    match keys::add(&mut tx, key.id(), &key.to_pem()?, comment, SystemClock.now()).await {
        Ok(()) => {}
        Err(DbError::Constraint { constraint }) if constraint == "signing_keys_pkey" => {
            bail!("key {} is known already, trusted or retired; a retired key is never trusted again", key.id())
        }
        Err(error) => return Err(error.into()),
    }
    tx.commit().await?;
    say(&format!("key {} is trusted", key.id()))
}
