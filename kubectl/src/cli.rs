//! The command line.

mod words;

use std::path::PathBuf;
use std::time::Duration;

use bifrost_config::units::parse_duration;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::failure::Failure;

/// Look at, move and check BifrostGateways.
#[derive(Debug, Parser)]
#[command(name = "kubectl-bifrost", bin_name = "kubectl bifrost", version, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which cluster and namespace, as kubectl takes them.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ClusterArgs {
    /// Namespace of the gateway. Absent: that of the kubeconfig's context.
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
    /// Context of the kubeconfig. Absent: the current one.
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
    /// File to use instead of $KUBECONFIG or ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show where a gateway is: readiness, step, shares, keys, pods, and what to do about what is wrong.
    Status(StatusArgs),
    /// Let a migration or a rollout take its next step, or with --full the last one its spec allows.
    Promote(PromoteArgs),
    /// Send everything straight to the vendors, with --rollout to the stable revision, and stay there until a retry or a change of
    /// the spec.
    Abort(AskArgs),
    /// Take a migration or a rollout that went back up again.
    Retry(AskArgs),
    /// Begin a migration or a rollout again at its first step.
    Restart(AskArgs),
    /// Hold back what adds or changes (spec.paused).
    Pause(RequestArgs),
    /// Let a paused gateway go on.
    Resume(RequestArgs),
    /// List the revisions of config and image that were stable, the newest last.
    History(HistoryArgs),
    /// Set spec.config and spec.image back to a revision of the history.
    Undo(UndoArgs),
    /// Set the share of the users that takes the bifrost arm (spec.migration.canaryPercent).
    SetPercent(PercentArgs),
    /// Set the active colour of a blue-green migration.
    Switch(SwitchArgs),
    /// Set the phase that a gradual migration may reach; none: everything straight to the vendors.
    SetPhase(PhaseArgs),
    /// List the provider keys of a gateway and what became of each; never a value.
    Keys(KeysArgs),
    /// Compare the latency of the gateway with that of the vendor called directly.
    Bench(BenchArgs),
    /// Go through the migration checklist: what is fine, what is not, and the command that puts it right.
    Preflight(PreflightArgs),
    /// Print what the analysis of the two arms, or of a rollout, says.
    Analysis(AnalysisArgs),
    /// Write a support bundle without credentials: resources, objects, events, logs.
    Report(ReportArgs),
    /// Send the calls that SDKs make through the gateway, and say which of them work.
    Test(TestArgs),
    /// Turn a config.json of the Go product or a LiteLLM config.yaml into manifests that say the same, starting at 0 %.
    Import(ImportArgs),
    /// Check manifests without a cluster, by the operator's own rules.
    Lint(FilesArgs),
    /// Print what would be published for manifests, and which objects would be made, without a cluster.
    Render(FilesArgs),
    /// Print the completion script of a shell.
    Completion(CompletionArgs),
}

/// Which gateway.
#[derive(Debug, Args)]
pub(crate) struct GatewayArg {
    /// Name of the gateway, also as bgw/NAME. Absent: the only one of the namespace.
    #[arg(value_parser = words::name)]
    pub(crate) name: Option<String>,
}

/// Whether and how long to wait for what was asked for.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Longest time to wait, such as 30s or 2m.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Return when it is written, without waiting for what follows.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArg,
    /// Print again at every change, until Ctrl-C.
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Print the same as JSON or YAML.
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArg,
}

/// Which gateway is called, how and as whom.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArg,
    /// Environment variable with the vendor's key to call with, for all fronts or, as openai=NAME, for one. Without it the
    /// call has no credential and takes the bifrost arm with a key of the pool.
    #[arg(long, value_name = "[FRONT=]NAME")]
    pub(crate) api_key_env: Vec<String>,
    /// Model of the calls to /openai.
    #[arg(long, value_name = "MODEL")]
    pub(crate) openai_model: Option<String>,
    /// Model of the calls to /anthropic.
    #[arg(long, value_name = "MODEL")]
    pub(crate) anthropic_model: Option<String>,
    /// Address of the gateway, to call it there instead of through a port-forward to one of its pods.
    #[arg(long)]
    pub(crate) url: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Address of the vendor, such as https://api.openai.com.
    #[arg(long, value_name = "URL")]
    pub(crate) direct: String,
    /// Which front is called.
    #[arg(long, default_value = "openai", value_parser = ["openai", "anthropic"])]
    pub(crate) front: String,
    /// Requests each way, 1 to 1000. Each is paid for.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) requests: u16,
    /// Requests under way at a time, 1 to 16.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) concurrency: u16,
}

#[derive(Debug, Args)]
pub(crate) struct PreflightArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArg,
    /// Part of the checklist. Absent: the one that fits where the migration is.
    #[arg(long)]
    pub(crate) phase: Option<Phase>,
}

/// Part of the migration checklist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Phase {
    /// Before traffic moves.
    Before,
    /// While it moves, or was rolled back.
    During,
    /// When all of it has moved.
    After,
}

#[derive(Debug, Args)]
pub(crate) struct AnalysisArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArg,
    /// The analysis of the candidate against the stable revision, not that of the migration.
    #[arg(long)]
    pub(crate) rollout: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArg,
}

#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArg,
    /// Revision to go back to, as `history` lists them. Absent: the stable one where the spec asks for another, else the newest that
    /// is not the stable one.
    #[arg(long, value_name = "REVISION")]
    pub(crate) to: Option<String>,
    /// Print what would change, and ask the API server whether it would take it, without writing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write although somebody else than kubectl, such as Argo CD, Flux or Helm, keeps these fields and may set them back.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArg,
    /// File to write. Absent: standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FilesArgs {
    /// Manifests to read: files, or folders, of which those named *.yaml, *.yml and *.json are read, none of folders below; - is
    /// standard input. May be given more than once.
    #[arg(short, long = "filename", value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// Take loopback and link-local addresses, as an operator with gateway.allowLocalAddresses does.
    #[arg(long)]
    pub(crate) allow_local_addresses: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file to read.
    pub(crate) file: PathBuf,
    /// Name of the gateway.
    #[arg(long, default_value = "ai")]
    pub(crate) name: String,
    /// Print keys that stand in the file itself. Otherwise a placeholder is printed.
    #[arg(long)]
    pub(crate) with_secrets: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// Which shell.
    pub(crate) shell: Shell,
}

/// A shell that scripts are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArg,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// What is asked of the operator, and of what.
#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    /// Ask it of the rollout of a new revision (spec.rollout), not of the migration.
    #[arg(long)]
    pub(crate) rollout: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// Go to the last step at once.
    #[arg(long)]
    pub(crate) full: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "kubectl bifrost set-percent [OPTIONS] [NAME] PERCENT")]
pub(crate) struct PercentArgs {
    /// Name of the gateway, unless the namespace has one only, and a whole number from 0 to 100, such as 25 or 25%.
    #[arg(required = true, num_args = 1..=2, value_name = "[NAME] PERCENT")]
    words: Vec<String>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

impl PercentArgs {
    /// Which gateway, and how many percent.
    pub(crate) fn placed(&self) -> Result<(GatewayArg, u8), Failure> {
        words::percent(&self.words)
    }
}

#[derive(Debug, Args)]
#[command(override_usage = "kubectl bifrost switch [OPTIONS] [NAME] blue|green")]
pub(crate) struct SwitchArgs {
    /// Name of the gateway, unless the namespace has one only, and the colour. blue: straight to the vendors; green: through
    /// the gateway.
    #[arg(required = true, num_args = 1..=2, value_name = "[NAME] COLOUR", value_parser = words::NameOrColour)]
    words: Vec<String>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

impl SwitchArgs {
    /// Which gateway, and which colour.
    pub(crate) fn placed(&self) -> Result<(GatewayArg, ColourArg), Failure> {
        words::colour(&self.words)
    }
}

#[derive(Debug, Args)]
#[command(override_usage = "kubectl bifrost set-phase [OPTIONS] [NAME] PHASE|none")]
pub(crate) struct PhaseArgs {
    /// Name of the gateway, unless the namespace has one only, and the name of a phase, or none.
    #[arg(required = true, num_args = 1..=2, value_name = "[NAME] PHASE")]
    words: Vec<String>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

impl PhaseArgs {
    /// Which gateway, and which phase.
    pub(crate) fn placed(&self) -> Result<(GatewayArg, &str), Failure> {
        words::phase(&self.words)
    }
}

/// A colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColourArg {
    Blue,
    Green,
}

/// A form for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Json,
    Yaml,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "is no duration such as 30s or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Cli::command().debug_assert();
    }

    fn parse(line: &str) -> Command {
        Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}")).command
    }

    #[test]
    fn the_name_may_be_left_out_before_a_value() {
        let Command::SetPercent(args) = parse("x set-percent 25 -n llm") else { panic!("another command") };
        let (gateway, percent) = args.placed().unwrap();
        assert_eq!((gateway.name, percent), (None, 25));
        let Command::Switch(args) = parse("x switch green --timeout 5s") else { panic!("another command") };
        let (gateway, colour) = args.placed().unwrap();
        assert_eq!((gateway.name, colour, args.wait.timeout), (None, ColourArg::Green, Duration::from_secs(5)));
        assert!(Cli::try_parse_from(["x", "set-percent"]).is_err());
    }

    #[test]
    fn options_may_stand_anywhere_around_name_and_value() {
        for order in ["ai 40 -n llm", "ai -n llm 40", "-n llm ai 40", "ai --no-wait 40% -n llm", "bgw/ai -n llm 40"] {
            let Command::SetPercent(args) = parse(&format!("x set-percent {order}")) else { panic!("another command") };
            let (gateway, percent) = args.placed().unwrap();
            assert_eq!((gateway.name.as_deref(), percent), (Some("ai"), 40), "{order}");
        }
        let Command::Switch(args) = parse("x switch ai -n llm Green") else { panic!("another command") };
        assert_eq!(args.placed().unwrap().1, ColourArg::Green);
        let Command::SetPhase(args) = parse("x set-phase ai -n llm foo") else { panic!("another command") };
        let (gateway, phase) = args.placed().unwrap();
        assert_eq!((gateway.name.as_deref(), phase), (Some("ai"), "foo"));
    }

    #[test]
    fn every_command_takes_a_name_with_its_kind() {
        let Command::Status(args) = parse("x status bifrostgateway/ai -n llm") else { panic!("another command") };
        assert_eq!(args.gateway.name.as_deref(), Some("ai"));
        let error = Cli::try_parse_from(["x", "status", "pod/ai"]).unwrap_err().to_string();
        assert!(error.contains("names no gateway: write NAME or bgw/NAME"), "{error}");
    }

    #[test]
    fn the_usage_shows_that_the_name_may_be_left_out() {
        let error = Cli::try_parse_from(["x", "set-percent"]).unwrap_err().to_string();
        assert!(error.contains("Usage: kubectl bifrost set-percent [OPTIONS] [NAME] PERCENT"), "{error}");
    }
}
