//! The words of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// OpenGradient: AI answers whose code, model and price a stranger can check.
#[derive(Debug, Parser)]
#[command(name = "og", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Print results as JSON on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more on standard error; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  og demo                                       watch the whole story once, in a temporary directory
  og dev --ready-file devnet.json               a network on this machine, until Ctrl-C
  og chat --devnet devnet.json \"Why is the sky blue?\"
  og chat --devnet devnet.json --receipt sky.ogp \"Why is the sky blue?\"
  og verify --offline --devnet devnet.json sky.ogp";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole network on this machine: validators, a payment chain, a gateway, a facilitator, a store.
    Dev(DevOptions),
    /// Watch a paid, verified, settled answer come to be, and check the proof of it.
    Demo(DemoOptions),
    /// Ask a model: find a gateway, pay it, verify its answer, then print it.
    Chat(ChatOptions),
    /// Check a receipt or a bundle. Exit code 0 verified, 1 rejected, 2 unreadable, 3 no trust anchor.
    Verify(VerifyOptions),
    /// List, show or register enclaves.
    Tee(TeeOptions),
    /// Show balances, or make a key.
    Wallet(WalletOptions),
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  og dev
  og dev --ready-file devnet.json --data-dir ./devnet
  og dev --upstream http://127.0.0.1:9000/v1 --models gpt-5,gpt-5-mini")]
pub(crate) struct DevOptions {
    /// Validators of the OpenGradient chain; four tolerate the loss of one.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) validators: u8,
    /// Where the network lives; it resumes from there. Default: a temporary directory, removed at the end.
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
    /// `auto`, or the first of a row of free ports on the loopback interface.
    #[arg(long, default_value = "auto", value_name = "auto|BASE", value_parser = parse_ports)]
    pub(crate) ports: og_devnet::Ports,
    /// Write the description of the network here once everything accepts requests; removed on stop.
    #[arg(long, value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
    /// An OpenAI-compatible service to offer beside the local model; its base URL, ending in /v1.
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<String>,
    /// Which of the upstream's models to offer. Default: those it lists.
    #[arg(long, value_name = "A,B", value_delimiter = ',', requires = "upstream")]
    pub(crate) models: Vec<String>,
    /// Do not load the local model.
    #[arg(long, requires = "upstream")]
    pub(crate) no_local_model: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DemoOptions {
    /// What to ask.
    #[arg(default_value = "In one sentence: why is the sky blue?")]
    pub(crate) prompt: String,
    /// Keep the bundle here.
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  og chat --devnet devnet.json \"Why is the sky blue?\"
  og chat --devnet devnet.json --account bob --max-tokens 40 --receipt sky.ogp \"Why is the sky blue?\"")]
pub(crate) struct ChatOptions {
    /// The network's description, as `og dev --ready-file` writes it.
    #[arg(long, value_name = "FILE", env = "OG_DEVNET", default_value = "devnet.json")]
    pub(crate) devnet: PathBuf,
    /// Which account of the file pays. Default: the first.
    #[arg(long, value_name = "NAME")]
    pub(crate) account: Option<String>,
    /// Which model to ask. Default: the first of the file.
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Most tokens to answer with.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) max_tokens: u32,
    /// Sampling temperature; 0 answers the same every time.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f64,
    /// Wait until the answer's evidence is final on chain, and keep the proof of it here.
    #[arg(long, value_name = "OUT.ogp")]
    pub(crate) receipt: Option<PathBuf>,
    /// Leave no trace on chain; with `--receipt` the bundle says that it is unanchored.
    #[arg(long)]
    pub(crate) private: bool,
    /// What to ask.
    pub(crate) prompt: String,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Exit code: 0 verified · 1 rejected (the failed check is named) · 2 unreadable · 3 no trust anchor

Examples:
  og verify --devnet devnet.json sky.ogp
  og verify --offline --trust anchors.json --json sky.ogp")]
pub(crate) struct VerifyOptions {
    /// Touch no network. Today every check is offline; the flag states the intent.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Take the trust anchors of this network file.
    #[arg(long, value_name = "FILE", conflicts_with = "trust")]
    pub(crate) devnet: Option<PathBuf>,
    /// Take the trust anchors of this file: the `trust`, `network` and `contracts` parts of a network file.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
    /// The bundle or receipt.
    pub(crate) file: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TeeOptions {
    /// The network's description.
    #[arg(
        long,
        value_name = "FILE",
        env = "OG_DEVNET",
        default_value = "devnet.json",
        global = true
    )]
    pub(crate) devnet: PathBuf,
    #[command(subcommand)]
    pub(crate) action: TeeAction,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TeeAction {
    /// List the active enclaves.
    List,
    /// Show one enclave.
    Show {
        /// Its id.
        tee_id: og_primitives::TeeId,
    },
    /// Register the enclave that serves at a URL: fetch its evidence, bound to its owner, and send it to the registry.
    Register {
        /// Where it serves.
        #[arg(long)]
        url: String,
        /// Its owner, as its configuration names it; needs the operator role.
        #[arg(long, value_name = "NAME", default_value = "operator")]
        account: String,
    },
}

#[derive(Args, Clone, Debug)]
pub(crate) struct WalletOptions {
    #[command(subcommand)]
    pub(crate) action: WalletAction,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum WalletAction {
    /// Make a key and write it to a file that only you can read.
    New {
        /// Where to write it.
        #[arg(value_name = "FILE")]
        out: PathBuf,
    },
    /// Show what the accounts of a network file hold.
    Balance {
        /// The network's description.
        #[arg(long, value_name = "FILE", env = "OG_DEVNET", default_value = "devnet.json")]
        devnet: PathBuf,
        /// Only this account.
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
}

fn parse_ports(text: &str) -> Result<og_devnet::Ports, String> {
    if text == "auto" {
        return Ok(og_devnet::Ports::Auto);
    }
    match text.parse::<u16>() {
        Ok(base) if base >= 1024 => Ok(og_devnet::Ports::From(base)),
        _ => Err("either `auto` or a port from 1024 on".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn ports_are_auto_or_a_free_range() {
        assert!(matches!(parse_ports("auto"), Ok(og_devnet::Ports::Auto)));
        assert!(matches!(parse_ports("8500"), Ok(og_devnet::Ports::From(8500))));
        for wrong in ["", "80", "70000", "any"] {
            assert!(parse_ports(wrong).is_err(), "{wrong}");
        }
    }
}
