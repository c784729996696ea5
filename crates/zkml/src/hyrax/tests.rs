use super::*;
use curve::{IDENTITY_POINT, encode};

fn values(count: usize) -> Vec<i64> {
    (0..).take(count).map(|i: i64| (i * 40_503 + 7) % 65_536 - 32_768).collect()
}

#[test]
fn shapes_cover_the_vector() {
    for n in MIN_VARIABLES..=MAX_VARIABLES {
        let bits = column_bits(n);
        assert!(bits < n && bits <= msm::MAX_COLUMN_BITS);
        assert_eq!(max_rows(n) << bits, 1 << n);
        assert!(rounds(n) < bits);
    }
    assert_eq!(column_bits(17), 9);
}

#[test]
fn commitments_are_canonical() {
    let commitment = Hyrax::commit(&values(100)).unwrap();
    assert_eq!((commitment.variables(), commitment.rows().len()), (7, 13));
    let bytes = Hyrax::encode(&commitment);
    assert!(bytes.len() < Hyrax::encoded_len(7));
    assert_eq!(Hyrax::decode(&bytes, 7), Ok(commitment.clone()));
    let refused = |bytes: &[u8], n| assert!(Hyrax::decode(bytes, n).is_err());
    refused(&bytes[1..], 7);
    refused(&bytes, 5);
    refused(&bytes, 3);
    refused(&bytes, 25);
    refused(&bytes.repeat(2), 7);
    let tail = [bytes.clone(), encode(&IDENTITY_POINT).to_vec()].concat();
    assert_eq!(Hyrax::decode(&tail, 7), Err(SchemeError::Commitment("the last row is zero")));
    let mut broken = bytes.clone();
    broken[31] |= 0x40;
    refused(&broken, 7);

    // Padding is zeros: a longer vector that ends in zeros is the same vector, one that is padded further is not.
    let mut padded = values(100);
    padded.resize(128, 0);
    assert_eq!(Hyrax::commit(&padded).unwrap(), commitment);
    padded.resize(256, 0);
    assert_ne!(Hyrax::digest(&Hyrax::commit(&padded).unwrap()), Hyrax::digest(&commitment));
    assert!(Hyrax::commit(&[0; 100]).unwrap().rows().is_empty());
    assert!(Hyrax::commit(&[]).unwrap().rows().is_empty());
    assert!(Commitment::new(4, vec![curve::generator(0); 5]).is_err());
    assert!(Commitment::new(25, vec![]).is_err());
}

#[test]
fn commitments_are_linear() {
    let (a, b) = (values(300), values(601).split_off(301));
    let sum: Vec<i64> = a.iter().zip(&b).map(|(a, b)| 3 * a - b).collect();
    let [a, b, sum] = [a, b, sum].map(|values| Hyrax::commit(&values).unwrap());
    assert_eq!(sum.rows().len(), a.rows().len());
    for ((a, b), sum) in a.rows().iter().zip(b.rows()).zip(sum.rows()) {
        assert_eq!(*a + *a + *a - *b, *sum);
    }
}

#[test]
fn every_value_moves_the_commitment() {
    let base = values(16);
    let commitment = Hyrax::commit(&base).unwrap();
    for index in 0..16 {
        let mut other = base.clone();
        other[index] += 1;
        assert_ne!(Hyrax::commit(&other).unwrap(), commitment);
    }
    let mut swapped = base;
    swapped.swap(0, 1);
    assert_ne!(Hyrax::commit(&swapped).unwrap(), commitment);
}

/// Computed apart from this crate, from the description of generators and encoding alone.
const GENERATORS: [(u64, &str); 3] = [
    (0, "6e54e04608560586c2ab11f7ab26bc83eb878a22e87aa7ebbc5a8004e96a3607"),
    (1, "0b08fd1c6cef769cc1c968fee16e3d6374ad3c4bb8a932016234898f6fd76490"),
    (513, "4c53092eb5a00b12fac29add9ab319d35dc9daabf61761bc6bd82467ba19f001"),
];

/// Likewise: the rows of a commitment to `values(16)`.
const ROWS: [&str; 4] = [
    "b91969d5ad0ea38ac44723b999d89376f773b7a231285ca5edd0e0df2f95952e",
    "5e604a516813dd6d8022f3de5ff73bca913044bc730e548504b19db09824408d",
    "21b52581efb10829dde154e64243ccb48d6bd01f38dafbd5f274ef46a9400e84",
    "97caa0872d326c433dd993b9e328404c3df2fa4c6ac1d6d92074be3babaeb02b",
];

#[test]
fn commitments_do_not_change() {
    for (index, bytes) in GENERATORS {
        assert_eq!(hex(&encode(&curve::generator(index))), bytes);
    }
    let commitment = Hyrax::commit(&values(16)).unwrap();
    assert_eq!(hex(&Hyrax::encode(&commitment)), ROWS.concat());
    assert_eq!(
        hex(&Hyrax::digest(&commitment)),
        "f017c486a7141a157bd63eb307bf8f10bae325b0d44794b076e867060d208576"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
