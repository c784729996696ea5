//! How far the integers are from the floats.
//!
//! Quantisation changes answers a little. A certificate says by how much, measured against a named oracle on a named set of
//! inputs, so that whoever relies on a model id knows what the integers behind it are worth. It is a statement, not a
//! proof: anyone with the model, the inputs and the oracle computes the same bytes.

use crate::model::ModelId;
use crate::onnx::Data;
use crate::qir::{Op, Program, Tensor};
use crate::reference::Value;

/// The most characters of a name.
const MAX_NAME: usize = 64;
/// The first bytes of every certificate.
const VERSION: &str = "og.zkml.certificate.v1";

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// An oracle's row has another length than the program's.
    #[error("row {row}: the oracle has {oracle} numbers, the program {program}")]
    Length {
        /// Which row, from 0.
        row: u64,
        /// The oracle's.
        oracle: usize,
        /// The program's.
        program: usize,
    },
    /// A number is NaN or infinite.
    #[error("row {0} holds NaN or an infinity")]
    NonFinite(u64),
    /// Nothing was compared.
    #[error("no rows were compared")]
    Empty,
    /// A name holds what it should not.
    #[error("`{0}` is not a name: up to 64 letters, digits, spaces and `.-_+` are")]
    Name(String),
    /// The bytes are not a certificate in its canonical form.
    #[error("not a canonical certificate: {0}")]
    Format(&'static str),
}

/// A comparison of the program's outputs with an oracle's, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    rows: u64,
    numbers: u64,
    max_error: f64,
    sum_error: f64,
    max_magnitude: f64,
    same_argmax: u64,
    saturated: u64,
    saturated_rows: u64,
}

impl Comparison {
    /// Takes one row into account: the oracle's numbers, the program's, and how many elements saturated on the way
    /// ([`saturations`]).
    ///
    /// # Errors
    /// [`CertificateError`] when the rows differ in length or are not finite; the comparison is unchanged then.
    pub fn add(
        &mut self,
        oracle: &[f64],
        program: &[f64],
        saturated: u64,
    ) -> Result<(), CertificateError> {
        if oracle.len() != program.len() || oracle.is_empty() {
            let (oracle, program) = (oracle.len(), program.len());
            return Err(CertificateError::Length { row: self.rows, oracle, program });
        }
        if oracle.iter().chain(program).any(|value| !value.is_finite()) {
            return Err(CertificateError::NonFinite(self.rows));
        }
        for (a, b) in oracle.iter().zip(program) {
            let error = (a - b).abs();
            self.max_error = self.max_error.max(error);
            self.sum_error += error;
            self.max_magnitude = self.max_magnitude.max(a.abs());
        }
        self.rows = self.rows.saturating_add(1);
        self.numbers = self.numbers.saturating_add(u64::try_from(oracle.len()).unwrap_or(u64::MAX));
        self.same_argmax =
            self.same_argmax.saturating_add(u64::from(decision(oracle) == decision(program)));
        self.saturated = self.saturated.saturating_add(saturated);
        self.saturated_rows = self.saturated_rows.saturating_add(u64::from(saturated > 0));
        Ok(())
    }

    /// Rows compared.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The largest difference of a number.
    #[must_use]
    pub fn max_error(&self) -> f64 {
        self.max_error
    }

    /// The mean difference over all numbers; 0 when there are none.
    #[must_use]
    pub fn mean_error(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a count far below 2^53")]
        let numbers = self.numbers.max(1) as f64;
        self.sum_error / numbers
    }

    /// Rows in which both have their (first) greatest number at the same place.
    #[must_use]
    pub fn same_argmax(&self) -> u64 {
        self.same_argmax
    }

    /// Elements that saturated, over all rows.
    #[must_use]
    pub fn saturated(&self) -> u64 {
        self.saturated
    }
}

/// Where the (first) greatest number is.
fn decision(row: &[f64]) -> usize {
    let best = row.iter().enumerate().fold((0, f64::NEG_INFINITY), |best, (at, &value)| {
        if value > best.1 { (at, value) } else { best }
    });
    best.0
}

/// How many elements a traced execution cut at the width of its integers: an upper limit `2^k − 1` of 7 bits or more, and the
/// lower limit that goes with one. Limits of another form are the model's own (`Relu`, `Clip`) and do not count.
#[must_use]
pub fn saturations(program: &Program, tensors: &[Tensor]) -> u64 {
    let mut count = 0u64;
    for node in program.nodes() {
        let (Op::Requant(requant), Some(&input)) = (&node.op, node.inputs.first()) else {
            continue;
        };
        let Some(x) = tensors.get(input) else { continue };
        let high =
            requant.hi >= 127 && requant.hi.unsigned_abs().saturating_add(1).is_power_of_two();
        let low =
            high && (requant.lo == -requant.hi || requant.lo == (-requant.hi).saturating_sub(1));
        let axis = usize::try_from(requant.axis).unwrap_or(0);
        let inner: usize =
            x.shape.iter().skip(axis.saturating_add(1)).map(|&dim| dim as usize).product();
        let many = requant.multipliers.len().max(1);
        let half = if requant.shift == 0 { 0 } else { 1i128 << (requant.shift.min(62) - 1) };
        for (at, &value) in x.values.iter().enumerate() {
            let channel = at.checked_div(inner.max(1)).unwrap_or(0).checked_rem(many).unwrap_or(0);
            let multiplier = requant.multipliers.get(channel).copied().unwrap_or(1);
            let scaled =
                (i128::from(value) * i128::from(multiplier) + half) >> requant.shift.min(62);
            let cut = (high && scaled > i128::from(requant.hi))
                || (low && scaled < i128::from(requant.lo));
            count = count.saturating_add(u64::from(cut));
        }
    }
    count
}

/// Whom the program was compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oracle {
    /// Outputs that another program computed, given as data: its name and version, for example `onnxruntime 1.32.0`.
    Given(String),
    /// The `f32` executor of this crate.
    Reference,
}

impl Oracle {
    fn name(&self) -> &str {
        match self {
            Self::Given(name) => name,
            Self::Reference => "og-zkml reference f32",
        }
    }
}

/// A statement about a model's accuracy.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// The model.
    pub model: ModelId,
    /// Whom it was compared with.
    pub oracle: Oracle,
    /// What the inputs are called, for people.
    pub dataset: String,
    /// [`Dataset::digest`] of the inputs and of the oracle's outputs.
    pub dataset_digest: [u8; 32],
    /// What came out.
    pub comparison: Comparison,
}

impl Certificate {
    /// Puts a certificate together.
    ///
    /// # Errors
    /// [`CertificateError`] when nothing was compared or a name is not one.
    pub fn new(
        model: ModelId,
        oracle: Oracle,
        dataset: &str,
        dataset_digest: [u8; 32],
        comparison: Comparison,
    ) -> Result<Self, CertificateError> {
        if comparison.rows == 0 {
            return Err(CertificateError::Empty);
        }
        for name in [oracle.name(), dataset] {
            if !is_name(name) {
                return Err(CertificateError::Name(name.chars().take(MAX_NAME).collect()));
            }
        }
        // Ours is not to be claimed by data.
        if let Oracle::Given(name) = &oracle
            && name == Oracle::Reference.name()
        {
            return Err(CertificateError::Name(name.clone()));
        }
        Ok(Self { model, oracle, dataset: dataset.into(), dataset_digest, comparison })
    }

    /// The canonical bytes: JSON of one line, keys in order, numbers in their shortest exact form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let c = &self.comparison;
        format!(
            concat!(
                r#"{{"argmax_agreement":{},"dataset":"{}","dataset_digest":"{}","max_error":{:?},"max_magnitude":{:?},"#,
                r#""model_id":"{}","numbers":{},"oracle":"{}","rows":{},"saturated":{},"saturated_rows":{},"#,
                r#""sum_error":{:?},"version":"{}"}}"#
            ),
            c.same_argmax,
            self.dataset,
            hex(&self.dataset_digest),
            c.max_error,
            c.max_magnitude,
            self.model,
            c.numbers,
            self.oracle.name(),
            c.rows,
            c.saturated,
            c.saturated_rows,
            c.sum_error,
            VERSION,
        )
        .into_bytes()
    }

    /// What a registry holds: BLAKE3 of the canonical bytes under this version's name.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        blake3::derive_key(VERSION, &self.encode())
    }

    /// Reads canonical bytes; anything else, however slightly, is refused.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() > 2048 {
            return Err(CertificateError::Format("it is too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| CertificateError::Format("not UTF-8"))?;
        let body = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let mut fields = body.ok_or(CertificateError::Format("not an object"))?.split(',');
        let mut field = |key: &'static str| {
            let field = fields.next().and_then(|field| field.strip_prefix('"')?.strip_prefix(key));
            field.and_then(|rest| rest.strip_prefix("\":")).ok_or(CertificateError::Format(key))
        };
        fn text_of<'a>(value: &'a str, key: &'static str) -> Result<&'a str, CertificateError> {
            let text = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            text.ok_or(CertificateError::Format(key))
        }
        fn number<T: std::str::FromStr>(
            value: &str,
            key: &'static str,
        ) -> Result<T, CertificateError> {
            value.parse().map_err(|_| CertificateError::Format(key))
        }
        let same_argmax = number(field("argmax_agreement")?, "argmax_agreement")?;
        let dataset = text_of(field("dataset")?, "dataset")?;
        let dataset_digest = text_of(field("dataset_digest")?, "dataset_digest")?;
        let max_error = number(field("max_error")?, "max_error")?;
        let max_magnitude = number(field("max_magnitude")?, "max_magnitude")?;
        let model = text_of(field("model_id")?, "model_id")?;
        let numbers = number(field("numbers")?, "numbers")?;
        let oracle = text_of(field("oracle")?, "oracle")?;
        let rows = number(field("rows")?, "rows")?;
        let saturated = number(field("saturated")?, "saturated")?;
        let saturated_rows = number(field("saturated_rows")?, "saturated_rows")?;
        let sum_error = number(field("sum_error")?, "sum_error")?;
        text_of(field("version")?, "version")?;
        let comparison = Comparison {
            rows,
            numbers,
            max_error,
            sum_error,
            max_magnitude,
            same_argmax,
            saturated,
            saturated_rows,
        };
        let sane = same_argmax <= rows
            && saturated_rows <= rows
            && rows <= numbers
            && [max_error, sum_error, max_magnitude].iter().all(|v| v.is_finite() && *v >= 0.0);
        if !sane {
            return Err(CertificateError::Format("its numbers contradict each other"));
        }
        let oracle = match oracle {
            name if name == Oracle::Reference.name() => Oracle::Reference,
            name => Oracle::Given(name.into()),
        };
        let model = model.strip_prefix("0x").and_then(unhex);
        let model = ModelId(model.ok_or(CertificateError::Format("model_id"))?);
        let digest = unhex(dataset_digest).ok_or(CertificateError::Format("dataset_digest"))?;
        let certificate = Self::new(model, oracle, dataset, digest, comparison)?;
        // The one form of these values.
        if certificate.encode() == bytes {
            Ok(certificate)
        } else {
            Err(CertificateError::Format("another form of the same values"))
        }
    }
}

/// Inputs and oracle outputs, to be digested in order.
#[derive(Clone, Debug)]
pub struct Dataset(blake3::Hasher);

impl Default for Dataset {
    fn default() -> Self {
        Self(blake3::Hasher::new_derive_key("og.zkml.dataset.v1"))
    }
}

impl Dataset {
    /// Adds a row: the inputs in the model's order, and what the oracle said.
    pub fn add(&mut self, inputs: &[Value], oracle: &[f64]) {
        self.length(inputs.len());
        for value in inputs {
            self.length(value.shape.len());
            value.shape.iter().for_each(|&dim| self.length(dim));
            match &value.data {
                Data::Float(values) => {
                    self.0.update(b"f");
                    values.iter().for_each(|v| {
                        self.0.update(&v.to_le_bytes());
                    });
                }
                Data::Int(values) => {
                    self.0.update(b"i");
                    values.iter().for_each(|v| {
                        self.0.update(&v.to_le_bytes());
                    });
                }
            }
        }
        self.length(oracle.len());
        for value in oracle {
            self.0.update(&value.to_le_bytes());
        }
    }

    fn length(&mut self, length: usize) {
        self.0.update(&u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes());
    }

    /// The digest of all rows so far.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b" .-_+".contains(&b))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut out = [0u8; 32];
    if pairs.len() != out.len() || !rest.is_empty() {
        return None;
    }
    for (byte, &[high, low]) in out.iter_mut().zip(pairs) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> Certificate {
        let mut comparison = Comparison::default();
        comparison.add(&[0.5, 0.25, -1.0], &[0.5, 0.25005, -1.0001], 0).unwrap();
        comparison.add(&[0.1, 0.2, 0.3], &[0.1, 0.3, 0.2], 2).unwrap();
        let mut data = Dataset::default();
        data.add(&[Value::floats(&[2], [1.0, 2.0])], &[0.5, 0.25, -1.0]);
        let oracle = Oracle::Given("onnxruntime 1.32.0".into());
        Certificate::new(ModelId([7; 32]), oracle, "two rows", data.digest(), comparison).unwrap()
    }

    #[test]
    fn it_counts_what_it_says() {
        let comparison = certificate().comparison;
        assert_eq!(
            (comparison.rows(), comparison.same_argmax(), comparison.saturated()),
            (2, 1, 2)
        );
        assert!((comparison.max_error() - 0.1).abs() < 1e-12);
        assert!((comparison.mean_error() - (0.00005 + 0.0001 + 0.2) / 6.0).abs() < 1e-12);
    }

    #[test]
    fn its_bytes_are_its_own_and_only_those() {
        let certificate = certificate();
        let bytes = certificate.encode();
        assert_eq!(Certificate::decode(&bytes).unwrap(), certificate);
        // It is JSON.
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["rows"], 2);
        // Any other byte is another certificate or none.
        for at in 0..bytes.len() {
            for flip in [1u8, 2, 0x20, 0x80] {
                let mut other = bytes.clone();
                other[at] ^= flip;
                if let Ok(decoded) = Certificate::decode(&other) {
                    assert_ne!(decoded, certificate);
                    assert_eq!(decoded.encode(), other);
                    assert_ne!(decoded.digest(), certificate.digest());
                }
            }
            assert!(Certificate::decode(&bytes[..at]).is_err());
        }
        assert!(Certificate::decode(&[&bytes[..], b" "].concat()).is_err());
    }

    #[test]
    fn bad_names_and_rows_are_refused() {
        let mut comparison = Comparison::default();
        let given = |name: &str| Oracle::Given(name.into());
        assert_eq!(
            Certificate::new(ModelId([0; 32]), Oracle::Reference, "x", [0; 32], comparison.clone()),
            Err(CertificateError::Empty)
        );
        assert!(comparison.add(&[1.0], &[1.0, 2.0], 0).is_err());
        assert!(comparison.add(&[f64::NAN], &[1.0], 0).is_err());
        comparison.add(&[1.0], &[1.0], 0).unwrap();
        for name in ["", "a\"b", "a,b", "og-zkml reference f32"] {
            let made =
                Certificate::new(ModelId([0; 32]), given(name), "x", [0; 32], comparison.clone());
            assert!(matches!(made, Err(CertificateError::Name(_))), "{name}");
        }
    }
}
