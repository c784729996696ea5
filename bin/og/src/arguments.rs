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
  og verify --offline --devnet devnet.json sky.ogp
  og prove --model mlp.onnx --input digit.json --input-range 0..1 --out digit.ogz
  og verify digit.ogz";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole network on this machine: validators, a payment chain, a gateway, a facilitator, a store.
    Dev(DevOptions),
    /// Watch a paid, verified, settled answer come to be, and check the proof of it.
    Demo(DemoOptions),
    /// Ask a model: find a gateway, pay it, verify its answer, then print it.
    Chat(ChatOptions),
    /// Check a bundle, a receipt or a proof. Exit code 0 verified, 1 rejected, 2 unreadable, 3 no trust anchor.
    Verify(VerifyOptions),
    /// Turn an ONNX file into a model of integers whose inferences can be proved.
    Model(ModelOptions),
    /// Prove one inference of a model.
    Prove(ProveOptions),
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
  og verify --offline --trust anchors.json --json sky.ogp
  og verify --model mlp.qir digit.ogz
  og verify --model-id 0x5f0c… digit.ogz")]
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
    /// Demand that a proof is for this model: a compiled model file, whose id is computed anew.
    #[arg(long, value_name = "FILE", conflicts_with = "model_id")]
    pub(crate) model: Option<PathBuf>,
    /// Demand that a proof is for the model with this id.
    #[arg(long, value_name = "ID", value_parser = parse_model_id)]
    pub(crate) model_id: Option<og_zkml::model::ModelId>,
    /// The bundle (.ogp), receipt or proof (.ogz); its first bytes tell which.
    pub(crate) file: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ModelOptions {
    #[command(subcommand)]
    pub(crate) action: ModelAction,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ModelAction {
    /// Compile an ONNX file. The scales come from the calibration data, or else from a stated range of the inputs.
    #[command(after_help = "\
Examples:
  og model compile mlp.onnx --calib rows.json -o mlp.qir
  og model compile mlp.onnx --input-range 0..1 -o mlp.qir
  og model compile net.onnx --dim batch=1 --bits 8 -o net.qir")]
    Compile {
        /// The ONNX file.
        onnx: PathBuf,
        #[command(flatten)]
        reading: OnnxOptions,
        /// Where to write the model.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Measure how far a compiled model is from its ONNX file on rows of data, and write a certificate of it.
    #[command(after_help = "\
Examples:
  og model certify mlp.qir --onnx mlp.onnx --data rows.json -o mlp.certificate.json
  og model certify mlp.qir --onnx mlp.onnx --data rows.json --expected outputs.json --oracle \"onnxruntime 1.32.0\" -o mlp.certificate.json")]
    Certify {
        /// The compiled model.
        model: PathBuf,
        /// The ONNX file it was compiled from.
        #[arg(long, value_name = "FILE")]
        onnx: PathBuf,
        /// The size of a dimension that the file leaves open; may be given again.
        #[arg(long, value_name = "NAME=N", value_parser = parse_dim)]
        dim: Vec<(String, usize)>,
        /// The rows: JSON, `{\"input_data\": [[…]]}` with one list per input, rows one after another.
        #[arg(long, value_name = "FILE")]
        data: PathBuf,
        /// What another program answered for these rows: JSON, `{\"output_data\": [[…]]}`. Default: our own f32 executor answers.
        #[arg(long, value_name = "FILE", requires = "oracle")]
        expected: Option<PathBuf>,
        /// The name and version of that program.
        #[arg(long, value_name = "NAME", requires = "expected")]
        oracle: Option<String>,
        /// Where to write the certificate.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Say what a compiled model is: its id, inputs, outputs and size.
    Show {
        /// The compiled model.
        model: PathBuf,
    },
}

/// How an ONNX file becomes integers.
#[derive(Args, Clone, Debug)]
pub(crate) struct OnnxOptions {
    /// Rows to calibrate with: JSON, `{"input_data": [[…]]}` with one list per input, rows one after another.
    #[arg(long, value_name = "FILE", conflicts_with = "input_range")]
    pub(crate) calib: Option<PathBuf>,
    /// The range of every element of every input. Default without calibration data: -8..8.
    #[arg(long, value_name = "A..B", value_parser = parse_range, allow_hyphen_values = true)]
    pub(crate) input_range: Option<(f32, f32)>,
    /// The size of a dimension that the file leaves open; may be given again.
    #[arg(long, value_name = "NAME=N", value_parser = parse_dim)]
    pub(crate) dim: Vec<(String, usize)>,
    /// Bits of weights and activations: 16, or 8.
    #[arg(long, value_name = "16|8", default_value = "16", value_parser = ["16", "8"])]
    pub(crate) bits: String,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  og prove --model mlp.qir --input digit.json --out digit.ogz
  og prove --model mlp.onnx --input-range 0..1 --input digit.json --backend W --out digit.ogz --json
  og prove --model net.qir --input digit.json --mode S --out digit.ogz")]
pub(crate) struct ProveOptions {
    /// A compiled model, or an ONNX file, which is then compiled first.
    #[arg(long, value_name = "FILE")]
    pub(crate) model: PathBuf,
    /// The input: JSON, `{"input_data": [[…]]}` with one list per input.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// T: the accumulators of all linear nodes are in the proof, in the clear. S: they are committed to, which makes small proofs of
    /// models with many activations.
    #[arg(long, default_value = "T", value_parser = ["T", "S"])]
    pub(crate) mode: String,
    /// H: small proofs over BN254. W: hash-based proofs, without a curve.
    #[arg(long, default_value = "H", value_parser = ["H", "W"])]
    pub(crate) backend: String,
    /// Where to write the proof.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) onnx: OnnxOptions,
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

fn parse_model_id(text: &str) -> Result<og_zkml::model::ModelId, String> {
    let id = text.parse::<alloy_primitives::B256>();
    id.map(|id| og_zkml::model::ModelId(id.0)).map_err(|error| error.to_string())
}

fn parse_range(text: &str) -> Result<(f32, f32), String> {
    let number = |text: &str| text.trim().parse::<f32>().ok().filter(|number| number.is_finite());
    let ends = text.split_once("..").and_then(|(lo, hi)| Some((number(lo)?, number(hi)?)));
    ends.filter(|(lo, hi)| lo < hi).ok_or_else(|| "a range such as 0..1 or -4..4".to_owned())
}

fn parse_dim(text: &str) -> Result<(String, usize), String> {
    let parts = text.split_once('=').and_then(|(name, size)| Some((name, size.parse().ok()?)));
    match parts {
        Some((name, size)) if !name.is_empty() && size > 0 => Ok((name.to_owned(), size)),
        _ => Err("a name and a size, such as batch=1".to_owned()),
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
    fn ranges_and_dimensions_are_read_strictly() {
        assert_eq!(parse_range("-1.5..2"), Ok((-1.5, 2.0)));
        for wrong in ["", "1", "2..1", "0..0", "0..inf", "a..b", "0..nan"] {
            assert!(parse_range(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_dim("n=1"), Ok(("n".to_owned(), 1)));
        for wrong in ["", "n", "n=", "n=0", "=1", "n=-1"] {
            assert!(parse_dim(wrong).is_err(), "{wrong}");
        }
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
