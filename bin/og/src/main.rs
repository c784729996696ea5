//! The `og` command: parse, start logging, hand over, and turn the outcome into an exit code.
//!
//! | Command | Line that does the work |
//! |---|---|
//! | `og dev` | [`dev::run`] → `og_devnet::Devnet` |
//! | `og demo` | [`demo::run`] |
//! | `og chat` | [`chat::run`] → `og_client::Client::chat` |
//! | `og verify` | [`verify::run`] → `og_receipt`, or [`proof::verify`] → `og_zkml` |
//! | `og model` | [`model::run`] → `og_zkml::compile` |
//! | `og prove` | [`proof::prove`] → `og_prove` |
//! | `og tee` | [`tee::run`] |
//! | `og wallet` | [`wallet::run`] |

mod arguments;
mod chat;
mod demo;
mod dev;
mod model;
mod proof;
mod tee;
mod ui;
mod verify;
mod wallet;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};
use ui::Ui;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ui = Ui::new(arguments.json);
    start_logging(&arguments);
    if let Err(error) = og_devnet::check_cpu() {
        ui.error(&error);
        return ExitCode::FAILURE;
    }
    match run(arguments.command, &ui) {
        Ok(code) => code,
        Err(error) => {
            ui.error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, ui: &Ui) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Dev(options) => dev::run(options, ui).await,
            Command::Demo(options) => demo::run(options, ui).await,
            Command::Chat(options) => chat::run(options, ui).await,
            Command::Verify(options) => verify::run(&options, ui),
            Command::Model(options) => model::run(&options, ui),
            Command::Prove(options) => proof::prove(&options, ui),
            Command::Tee(options) => tee::run(options, ui).await,
            Command::Wallet(options) => wallet::run(options, ui).await,
        }
    });
    // A blocking read of a terminal or a model in full swing must not hold the process back.
    runtime.shutdown_background();
    outcome
}

/// Logs go to standard error. `OG_LOG` sets the filter, as in `OG_LOG=info,og_gateway=debug`.
fn start_logging(arguments: &Arguments) {
    use tracing_subscriber::EnvFilter;

    let default = match arguments.verbose {
        0 => "error",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("OG_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ui::colours(&std::io::stderr()))
        .init();
}
