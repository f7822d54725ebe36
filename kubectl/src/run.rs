//! From the command line to the exit code.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

use crate::change::{self, Change};
use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::request::{self, Verb};
use crate::session::Session;
use crate::{analysis, bench, compat, completion, history, import, keys, offline, preflight, report, status, undo};

/// The process.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os();
    if completion::is_asked(words.next().as_deref()) {
        let folder = std::env::current_dir().ok();
        return say(&completion::candidates(words, folder.as_deref()))
            .map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Failure::Io { what: "the runtime cannot start".to_owned(), error }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Said) {
                note(&format!("error: {failure}"));
            }
            failure.code()
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let open = || Session::open(&cli.cluster);
    let ask = async |verb, args: &crate::cli::AskArgs| request::run(&open().await?, verb, args).await;
    match &cli.command {
        Command::Status(args) => status::run(&open().await?, args).await,
        Command::Promote(args) if args.full => ask(Verb::PromoteFull, &args.ask).await,
        Command::Promote(args) => ask(Verb::Promote, &args.ask).await,
        Command::Abort(args) => ask(Verb::Abort, args).await,
        Command::Retry(args) => ask(Verb::Retry, args).await,
        Command::Restart(args) => ask(Verb::Restart, args).await,
        Command::Pause(args) => change::run(&open().await?, &args.gateway, &args.wait, &Change::Paused(true)).await,
        Command::Resume(args) => change::run(&open().await?, &args.gateway, &args.wait, &Change::Paused(false)).await,
        Command::SetPercent(args) => {
            let (gateway, percent) = args.placed()?;
            change::run(&open().await?, &gateway, &args.wait, &Change::Percent(percent)).await
        }
        Command::Switch(args) => {
            let (gateway, colour) = args.placed()?;
            change::run(&open().await?, &gateway, &args.wait, &Change::Colour(colour)).await
        }
        Command::SetPhase(args) => {
            let (gateway, phase) = args.placed()?;
            change::run(&open().await?, &gateway, &args.wait, &Change::phase(phase)).await
        }
        Command::History(args) => history::run(&open().await?, args).await,
        Command::Undo(args) => undo::run(&open().await?, args).await,
        Command::Keys(args) => keys::run(&open().await?, &args.gateway).await,
        Command::Test(args) => compat::run(&open().await?, args).await,
        Command::Bench(args) => bench::run(&open().await?, args).await,
        Command::Preflight(args) => preflight::run(&open().await?, args).await,
        Command::Analysis(args) => analysis::run(&open().await?, args).await,
        Command::Report(args) => report::run(&open().await?, args).await,
        Command::Import(args) => import::run(args, cli.cluster.namespace.as_deref()),
        Command::Lint(args) => offline::lint(args),
        Command::Render(args) => offline::render(args),
        Command::Completion(args) => say(&completion::script(args.shell)),
    }
}

/// Writes to standard output. A pipe that was closed ends the command without a panic.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written =
        out.write_all(text.as_bytes()).and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") });
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::Said),
        result => result.map_err(|error| Failure::Io { what: "standard output".to_owned(), error }),
    }
}

/// Writes a line to standard error; who closed it does not want to know.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
