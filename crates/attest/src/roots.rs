//! Roots of trust, known by the SHA-256 of their certificates.

use alloy_primitives::{B256, b256, hex};

/// A root that a policy trusts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Root {
    /// SHA-256 of the DER certificate.
    pub sha256: B256,
    /// Whether what it attests is only simulated. Such a root is trusted by no policy that does not list it, and
    /// everything shown about it says *simulated*.
    pub simulated: bool,
}

impl Root {
    /// A root of real hardware by its certificate's SHA-256.
    pub const fn hardware(sha256: B256) -> Self {
        Self { sha256, simulated: false }
    }
}

/// The AWS Nitro Enclaves root G1 (CN `aws.nitro-enclaves`, valid from 2019-10-28 to 2049-10-28).
pub const AWS_NITRO_G1: Root =
    Root::hardware(b256!("641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"));

/// The published development root of the simulated TEE ([`crate::simulated`]). Anyone can sign with it.
pub const DEVELOPMENT: Root = Root {
    sha256: b256!("8881225bad2a9060b67d36be3b0211cc1d8f2aac6001932155ca0509d465c928"),
    simulated: true,
};

/// The DER certificate of [`AWS_NITRO_G1`].
pub const AWS_NITRO_G1_DER: &[u8] = &hex!(
    "3082021130820196a003020102021100f93175681b90afe11d46ccb4e4e7f856300a06082a8648ce3d0403033049310b"
    "3009060355040613025553310f300d060355040a0c06416d617a6f6e310c300a060355040b0c03415753311b30190603"
    "5504030c126177732e6e6974726f2d656e636c61766573301e170d3139313032383133323830355a170d343931303238"
    "3134323830355a3049310b3009060355040613025553310f300d060355040a0c06416d617a6f6e310c300a060355040b"
    "0c03415753311b301906035504030c126177732e6e6974726f2d656e636c617665733076301006072a8648ce3d020106"
    "052b8104002203620004fc0254eba608c1f36870e29ada90be46383292736e894bfff672d989444b5051e534a4b1f6db"
    "e3c0bc581a32b7b176070ede12d69a3fea211b66e752cf7dd1dd095f6f1370f4170843d9dc100121e4cf630128096644"
    "87c9796284304dc53ff4a3423040300f0603551d130101ff040530030101ff301d0603551d0e041604149025b50dd905"
    "47e796c396fa729dcf99a9df4b96300e0603551d0f0101ff040403020186300a06082a8648ce3d040303036900306602"
    "3100a37f2f91a1c9bd5ee7b8627c1698d255038e1f0343f95b63a9628c3d39809545a11ebcbf2e3b55d8aeee71b4c3d6"
    "adf3023100a2f39b1605b27028a5dd4ba069b5016e65b4fbde8fe0061d6a53197f9cdaf5d943bc61fc2beb03cb6fee8d"
    "2302f3dff6"
);

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::simulated::Authority;

    #[test]
    fn fingerprints_are_those_of_the_certificates() {
        assert_eq!(AWS_NITRO_G1.sha256.as_slice(), &Sha256::digest(AWS_NITRO_G1_DER)[..]);
        assert_eq!(DEVELOPMENT, Authority::development().root());
    }
}
