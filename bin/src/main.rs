//! `modelog`: what people and scripts type.
//!
//! ```text
//! cli ─▶ config ─▶ serve ─────────────── engine, stores, HTTP, metrics
//!                └▶ a command ─▶ place ─▶ the server that holds the directory, or the directory itself
//! ```
//!
//! Results go to stdout, everything else to stderr. An error is printed once, with its causes, and decides the exit
//! code (`exit`).

mod backup;
mod bench;
mod cli;
mod client;
mod compact;
mod config;
mod dead_letters;
mod demo;
mod descriptors;
mod exit;
mod export;
mod filter;
mod import;
mod inspect;
mod logging;
mod maintenance;
mod memory;
mod output;
mod place;
mod produce;
mod progress;
mod projections;
mod restore;
mod schedule;
mod serve;
mod show;
mod sources;
mod tail;

use std::future::Future;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use cli::{Cli, Command, ConfigCommand, LogCommand};
use config::Origin;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(exit) => exit,
        // Whoever read our output has seen enough.
        Err(error) if exit::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            exit::code(&error).into()
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "modelog", &mut script);
        std::io::Write::write_all(&mut std::io::stdout(), &script)?;
        return Ok(ExitCode::SUCCESS);
    }
    let loaded = cli.load()?;
    let Cli { common, command } = cli;
    let settings = &loaded.settings;
    let serving = matches!(command, Command::Serve(_));
    let asked = loaded
        .shown
        .iter()
        .any(|shown| shown.setting == "logging.filter" && shown.origin != Origin::Default);
    // Commands say what they have to say themselves.
    let filter = (!serving && !asked).then_some("warn");
    logging::start(&settings.logging, filter)?;
    match command {
        Command::Completions { .. } => {}
        Command::Config(ConfigCommand::Check) => show::check(&loaded)?,
        Command::Config(ConfigCommand::Show(args)) => show::show(&loaded, &args)?,
        Command::Verify(args) => return inspect::verify(settings, &args),
        Command::Log(LogCommand::Inspect(args)) => inspect::log(settings, &args)?,
        Command::Serve(_) => {
            memory::bound();
            block_on(serve::run(settings))?;
        }
        Command::Import(args) => return block_on(import::run(settings, args)),
        Command::Tail(args) => block_on(tail::run(settings, args))?,
        Command::Export(args) => block_on(export::run(settings, args))?,
        Command::Rebuild(args) => block_on(projections::rebuild(settings, &args))?,
        Command::Projections(args) => block_on(projections::list(settings, &args))?,
        Command::DeadLetters(command) => return block_on(dead_letters::run(settings, command)),
        Command::Produce(args) => return block_on(produce::run(args)),
        Command::Compact(args) => block_on(compact::run(settings, &args))?,
        Command::Backup(args) => block_on(backup::run(settings, &args))?,
        Command::Restore(args) => block_on(restore::run(settings, &args))?,
        Command::Bench(args) => bench::run(settings, args)?,
        Command::Demo(args) => block_on(demo::run(demo::DemoOptions {
            data: common.data.unwrap_or_else(|| "modelog-demo".into()).into(),
            serve: args.serve,
            listen: args.listen,
        }))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that waits for disks and sockets. As many workers as there are processors, and two at least: a
/// worker that encodes a batch must not hold up everything else. Few threads for work that blocks: each may hold a
/// large body.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    const BLOCKING_THREADS: usize = 16;
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.max(2))
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?
        .block_on(work)
}
