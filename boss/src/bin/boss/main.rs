//! `boss`: the server, and what its administrator does beside it.

mod admin;
mod serve;
mod store;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr as _;

use anyhow::Context;
use boss::clock::{Clock as _, SystemClock};
use boss::config::{ConfigError, DatabaseUrl, DatabaseUrlText, Told};
use boss_api::Name;
use boss_api::ids::ProjectId;
use boss_db::{PgPool, projects};
use clap::{Args, Parser, Subcommand};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

/// Track what every disk was loaded from, save experiments when they swap out, put them back
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    settings: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until it is told to stop
    Serve,
    /// Bring the database to the layout this version needs
    Migrate,
    /// Look after what the store holds
    Store {
        #[command(subcommand)]
        command: store::Command,
    },
    /// Manage users, projects and keys, directly in the database
    Admin {
        #[command(subcommand)]
        command: admin::Command,
    },
}

/// Flags win over `EBB_*` variables, those over the file.
#[derive(Args, Debug)]
struct Flags {
    /// A TOML file with the same names as these flags
    #[arg(long, env = "EBB_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Where people and their programs connect [127.0.0.1:4710]
    #[arg(long, env = "EBB_LISTEN", global = true)]
    listen: Option<std::net::SocketAddr>,
    /// Where agents connect, a loopback address [127.0.0.1:4711]
    #[arg(long, env = "EBB_AGENT_LISTEN", global = true)]
    agent_listen: Option<std::net::SocketAddr>,
    /// The database; prefer the variable or the file when it holds a password
    #[arg(long, env = "EBB_DATABASE_URL", global = true, hide_env_values = true)]
    database_url: Option<String>,
    /// The state directory: keys, store, runtime files
    #[arg(long, env = "EBB_STATE", global = true)]
    state: Option<PathBuf>,
    /// How people reach the site; decides whether cookies are Secure
    #[arg(long, env = "EBB_BASE_URL", global = true)]
    base_url: Option<String>,
    /// The agent's program for local nodes [node-agent beside this one]
    #[arg(long, env = "EBB_AGENT_PROGRAM", global = true)]
    agent_program: Option<PathBuf>,
}

impl Flags {
    fn told(self) -> Result<Told, ConfigError> {
        let database_url = self.database_url.map(|text| {
            let Ok(url) = DatabaseUrlText::from_str(&text);
            url
        });
        let flags = Told {
            listen: self.listen,
            agent_listen: self.agent_listen,
            database_url,
            state: self.state,
            base_url: self.base_url,
            agent_program: self.agent_program,
        };
        Ok(match self.config {
            Some(path) => flags.or(Told::from_file(&path)?),
            None => flags,
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("EBB_LOG").unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    // That a line cannot be written is told nobody: on a full file system telling it would be a panic.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false).init();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "boss: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Something missing or wrong in the set-up is 2, a database that does not answer 10, everything else 1.
fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Io(_)) => 10,
        // The password, the user or the name of the database.
        Some(sqlx::Error::Database(db)) if matches!(db.code().as_deref(), Some("28P01" | "28000" | "3D000")) => 2,
        _ if error.is::<ConfigError>() => 2,
        _ if error.is::<store::Defects>() => 7,
        _ => 1,
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let told = arguments.settings.told()?;
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let done = match arguments.command {
        Command::Serve => runtime.block_on(serve::serve(told.resolve()?)),
        Command::Migrate => runtime.block_on(async {
            let pool = connect(&told.database()?).await?;
            migrate(&pool).await
        }),
        Command::Store { command } => runtime.block_on(async {
            let config = told.resolve()?;
            let pool = connect(&config.database_url).await?;
            migrate(&pool).await?;
            store::run(command, &pool, &config.state).await
        }),
        Command::Admin { command } => runtime.block_on(async {
            let pool = connect(&told.database()?).await?;
            admin::run(command, &pool).await
        }),
    };
    // Whoever still waits for a medium is not waited for: what counts is durable, or begun again by the next start.
    runtime.shutdown_background();
    done
}

/// Connects to the database, and says what to do where that is not possible.
async fn connect(url: &DatabaseUrl) -> anyhow::Result<PgPool> {
    let options = PgConnectOptions::from_str(url.expose())
        .ok()
        .context("the address of the database is malformed: expected postgres://USER@HOST/NAME; set EBB_DATABASE_URL")?
        .application_name("boss")
        // A commit that was answered is on the disk, whatever the server's default: what boss does next cannot be undone.
        .options([("synchronous_commit", "on")])
        // A boss that was stopped in the middle must not keep the next one from ruling.
        .options([("idle_in_transaction_session_timeout", "60s")]);
    PgPoolOptions::new().max_connections(16).connect_with(options).await.map_err(|error| {
        let hint = match &error {
            sqlx::Error::Io(_) => "PostgreSQL does not answer there: is it running, and is the address right?",
            sqlx::Error::Database(db) if matches!(db.code().as_deref(), Some("28P01" | "28000")) => {
                "PostgreSQL refused user or password: check EBB_DATABASE_URL"
            }
            sqlx::Error::Database(db) if db.code().as_deref() == Some("3D000") => {
                "there is no such database: make it with createdb"
            }
            _ => "the database cannot be used",
        };
        anyhow::Error::new(error).context(hint)
    })
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("write to standard output")
}

async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    boss_db::MIGRATOR.run(pool).await.context("bring the database to the layout this version needs")?;
    // The site's own images belong to a project that is always there.
    let system = Name::new(projects::SYSTEM)?;
    let mut tx = pool.begin().await?;
    projects::ensure(&mut tx, ProjectId::new(Uuid::now_v7()), &system, SystemClock.now()).await?;
    tx.commit().await.context("make the project of the site")
}
