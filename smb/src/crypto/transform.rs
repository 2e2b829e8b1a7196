//! Encrypted messages: SMB2 TRANSFORM_HEADER (MS-SMB2 2.2.41, 3.1.4.3).

use aes::{Aes128, Aes256};
use aes_gcm::aead::consts::{U11, U16};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use ccm::Ccm;
use spin::Once;
use zeroize::Zeroize;

use crate::reader::{Malformed, Reader, Writer};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes of a TRANSFORM_HEADER.
pub const TRANSFORM_HEADER_SIZE: usize = 52;

/// Its first four bytes: 0xFD 'S' 'M' 'B'.
const PROTOCOL: [u8; 4] = *b"\xFDSMB";

/// How messages are encrypted; the values are those of SMB2_ENCRYPTION_CAPABILITIES (MS-SMB2 2.2.3.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Cipher {
    /// AES-128-CCM, the only one of SMB 3.0 and 3.0.2.
    Aes128Ccm = 1,
    /// AES-128-GCM.
    Aes128Gcm = 2,
    /// AES-256-CCM.
    Aes256Ccm = 3,
    /// AES-256-GCM.
    Aes256Gcm = 4,
}

impl Cipher {
    /// From its number in SMB2_ENCRYPTION_CAPABILITIES.
    pub const fn from_wire(number: u16) -> Option<Cipher> {
        match number {
            1 => Some(Cipher::Aes128Ccm),
            2 => Some(Cipher::Aes128Gcm),
            3 => Some(Cipher::Aes256Ccm),
            4 => Some(Cipher::Aes256Gcm),
            _ => None,
        }
    }

    /// Bytes of its key.
    pub const fn key_length(self) -> usize {
        match self {
            Cipher::Aes128Ccm | Cipher::Aes128Gcm => 16,
            Cipher::Aes256Ccm | Cipher::Aes256Gcm => 32,
        }
    }

    /// Bytes of its nonce; the rest of the header's 16 bytes is zero.
    pub const fn nonce_length(self) -> usize {
        match self {
            Cipher::Aes128Ccm | Cipher::Aes256Ccm => 11,
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => 12,
        }
    }
}

/// A TRANSFORM_HEADER as it is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransformHeader {
    /// The authentication tag.
    pub signature: [u8; 16],
    /// The nonce, padded with zeros.
    pub nonce: [u8; 16],
    /// Bytes of the message that is encrypted.
    pub original_size: u32,
    /// To be zero, but authenticated as it came.
    pub reserved: u16,
    /// Flags of 3.1.1, EncryptionAlgorithm before: 1 both times.
    pub flags: u16,
    /// The session whose key it is.
    pub session: u64,
}

impl TransformHeader {
    /// "Encrypted" (3.1.1), "AES-128-CCM" (3.0, 3.0.2).
    pub const ENCRYPTED: u16 = 1;

    /// Reads the header of `message`; the rest of the reader is the encrypted part, whose length is to be `original_size`.
    pub fn parse(reader: &mut Reader<'_>) -> Result<TransformHeader, Malformed> {
        if reader.array()? != PROTOCOL {
            return Err(Malformed);
        }
        let signature = reader.array()?;
        let nonce = reader.array()?;
        let original_size = reader.u32()?;
        let reserved = reader.u16()?;
        let flags = reader.u16()?;
        let session = reader.u64()?;
        Ok(TransformHeader { signature, nonce, original_size, reserved, flags, session })
    }

    /// Appends the header.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.bytes(&PROTOCOL);
        writer.bytes(&self.signature);
        writer.bytes(&self.associated_data());
    }

    /// What is authenticated beside the message: the header behind its signature.
    fn associated_data(&self) -> [u8; 32] {
        let mut data = [0; 32];
        let (nonce, rest) = data.split_at_mut(16);
        nonce.copy_from_slice(&self.nonce);
        let numbers = u128::from(self.original_size)
            | u128::from(self.reserved) << 32
            | u128::from(self.flags) << 48
            | u128::from(self.session) << 64;
        rest.copy_from_slice(&numbers.to_le_bytes());
        data
    }
}

/// The message could not be decrypted (its tag is wrong), or is too long to be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealError;

/// AES-GCM (NIST SP 800-38D) with one key, as an embedder may bring it: see [`use_aes_gcm`].
///
/// What it does must take a time that depends on lengths only.
pub trait GcmKey: Send + Sync {
    /// Encrypts `text` in place and gives the tag over `data`, which is authenticated only, and the text.
    fn seal(&self, nonce: &[u8; 12], data: &[u8; 32], text: &mut [u8]) -> [u8; 16];

    /// Decrypts `text` in place and gives the tag that should have come with it.
    fn open(&self, nonce: &[u8; 12], data: &[u8; 32], text: &mut [u8]) -> [u8; 16];
}

/// Works in a key of 16 or 32 bytes. None when there is no room for one more: RustCrypto's code is used for it then.
pub type MakeGcmKey = fn(&[u8]) -> Option<Box<dyn GcmKey>>;

static MAKE_GCM_KEY: Once<MakeGcmKey> = Once::new();

/// Names what AES-GCM is done with from now on. The first call counts; before it RustCrypto's portable code is used.
pub fn use_aes_gcm(make: MakeGcmKey) {
    MAKE_GCM_KEY.call_once(|| make);
}

/// A session's key in one direction.
#[derive(Clone)]
pub struct CipherKey {
    cipher: Cipher,
    key: [u8; 32],
    /// The key, worked in by what the embedder brings: with its first message, because most sessions never encrypt. Shared
    /// by the clones that requests carry.
    prepared: Arc<Once<Option<Box<dyn GcmKey>>>>,
}

impl Drop for CipherKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl core::fmt::Debug for CipherKey {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "CipherKey({:?})", self.cipher)
    }
}

/// AES-CCM with a tag of 16 bytes and a nonce of 11.
type Ccm11<Aes> = Ccm<Aes, U16, U11>;

impl CipherKey {
    /// From a derived key; of a 128-bit cipher's, the first half counts.
    pub fn new(cipher: Cipher, key: [u8; 32]) -> CipherKey {
        CipherKey { cipher, key, prepared: Arc::default() }
    }

    /// The cipher.
    pub const fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// The key's bytes, as many as the cipher has.
    pub(super) fn bytes(&self) -> &[u8] {
        self.key.get(..self.cipher.key_length()).unwrap_or(&[])
    }

    /// The key as the embedder's AES-GCM wants it, where that is what it is for.
    fn prepared(&self) -> Option<&dyn GcmKey> {
        let make = MAKE_GCM_KEY.get()?;
        if !matches!(self.cipher, Cipher::Aes128Gcm | Cipher::Aes256Gcm) {
            return None;
        }
        self.prepared.call_once(|| make(self.bytes())).as_deref()
    }

    /// Encrypts `message` in place. `nonce` must never repeat under this key: count, starting anywhere. Gives the header
    /// that goes before the message, signature included.
    pub fn seal(&self, nonce: u64, session: u64, message: &mut [u8]) -> Result<TransformHeader, SealError> {
        let mut header = TransformHeader {
            signature: [0; 16],
            nonce: (u128::from(nonce)).to_le_bytes(),
            original_size: u32::try_from(message.len()).map_err(|_| SealError)?,
            reserved: 0,
            flags: TransformHeader::ENCRYPTED,
            session,
        };
        self.seal_with(&mut header, message)?;
        Ok(header)
    }

    /// Encrypts `message` in place under all that `header` says, and sets its signature.
    fn seal_with(&self, header: &mut TransformHeader, message: &mut [u8]) -> Result<(), SealError> {
        let data = header.associated_data();
        if let (Some(key), Some(nonce)) = (self.prepared(), header.nonce.first_chunk()) {
            header.signature = key.seal(nonce, &data, message);
            return Ok(());
        }
        header.signature = match self.cipher {
            Cipher::Aes128Ccm => seal::<Ccm11<Aes128>>(self.bytes(), &header.nonce, &data, message),
            Cipher::Aes256Ccm => seal::<Ccm11<Aes256>>(self.bytes(), &header.nonce, &data, message),
            Cipher::Aes128Gcm => seal::<Aes128Gcm>(self.bytes(), &header.nonce, &data, message),
            Cipher::Aes256Gcm => seal::<Aes256Gcm>(self.bytes(), &header.nonce, &data, message),
        }
        .ok_or(SealError)?;
        Ok(())
    }

    /// Decrypts `message` in place. On failure its contents are not to be used.
    pub fn open(&self, header: &TransformHeader, message: &mut [u8]) -> Result<(), SealError> {
        if u32::try_from(message.len()) != Ok(header.original_size) {
            return Err(SealError);
        }
        let data = header.associated_data();
        if let (Some(key), Some(nonce)) = (self.prepared(), header.nonce.first_chunk()) {
            let tag = key.open(nonce, &data, message);
            return if super::equal(&tag, &header.signature) { Ok(()) } else { Err(SealError) };
        }
        match self.cipher {
            Cipher::Aes128Ccm => open::<Ccm11<Aes128>>(self.bytes(), header, &data, message),
            Cipher::Aes256Ccm => open::<Ccm11<Aes256>>(self.bytes(), header, &data, message),
            Cipher::Aes128Gcm => open::<Aes128Gcm>(self.bytes(), header, &data, message),
            Cipher::Aes256Gcm => open::<Aes256Gcm>(self.bytes(), header, &data, message),
        }
        .ok_or(SealError)
    }
}

/// Encrypts with one cipher; the nonce is the start of `nonce`. Gives the tag.
fn seal<A: AeadInOut<TagSize = U16> + KeyInit>(
    key: &[u8],
    nonce: &[u8; 16],
    data: &[u8],
    message: &mut [u8],
) -> Option<[u8; 16]> {
    let nonce = nonce.iter().copied();
    let nonce = aes_gcm::aead::Nonce::<A>::from_iter(nonce.take(size_of::<aes_gcm::aead::Nonce<A>>()));
    let cipher = A::new_from_slice(key).ok()?;
    let tag = cipher.encrypt_inout_detached(&nonce, data, message.into()).ok()?;
    Some(tag.into())
}

/// Decrypts with one cipher.
fn open<A: AeadInOut<TagSize = U16> + KeyInit>(
    key: &[u8],
    header: &TransformHeader,
    data: &[u8],
    message: &mut [u8],
) -> Option<()> {
    let nonce = header.nonce.iter().copied();
    let nonce = aes_gcm::aead::Nonce::<A>::from_iter(nonce.take(size_of::<aes_gcm::aead::Nonce<A>>()));
    let cipher = A::new_from_slice(key).ok()?;
    cipher.decrypt_inout_detached(&nonce, data, message.into(), &header.signature.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::derivation::{KeyDerivation, SessionKeys};
    use super::super::signing::SigningAlgorithm;
    use super::super::tests::hex;
    use super::*;

    /// "Encryption in SMB 3.0: a protocol perspective": a client's WRITE and the server's answer.
    #[test]
    fn smb_3_0_example() {
        let session_key = hex("B4546771B515F766A86735532DD6C4F0").try_into().unwrap();
        let keys = SessionKeys::derive(
            &session_key,
            KeyDerivation::FixedLabels,
            SigningAlgorithm::AesCmac,
            Some(Cipher::Aes128Ccm),
        );
        let wire = hex("FD534D4281A286535415445DAE393921E44FA42E66E69A111892584FB5ED524A
            744DA3EE87000000000001001100001400E4080025C8FEE16605A437832D1CD5
            2DA9F4645333482A175FE5384563F45FCDAFAEF38BC62BA4D5C62897996625A4
            4C29BE5658DE2E6117585779E7B59FFD971278D08580D7FA899E410E910EABF5
            AA1DB43050B33B49182637759AC15D84BFCDF5B6B238993C0F4CF4D6012023F6
            C627297075D84B7803912D0A9639634453595EF3E33FFE4E7AC2AB");
        let plain = hex("FE534D4240000100000000000900400008000000000000000400000000000000
            FFFE0000010000001100001400E4080000000000000000000000000000000000
            3100700017000000000000000000000015010000390000020100000039020000
            00000000000000007000000000000000536D623320656E6372797074696F6E20
            74657374696E67");
        let key = keys.decryption.as_ref().unwrap();
        let mut reader = Reader::new(&wire);
        let header = TransformHeader::parse(&mut reader).unwrap();
        assert_eq!(header.session, 0x0008_E400_1400_0011);
        let mut message = reader.rest().to_vec();
        key.open(&header, &mut message).unwrap();
        assert_eq!(message, plain);

        let mut again = TransformHeader { signature: [0; 16], ..header };
        key.seal_with(&mut again, &mut message).unwrap();
        let mut emitted = Vec::new();
        again.emit(&mut emitted);
        emitted.extend(message);
        assert_eq!(emitted, wire);

        let wire = hex("FD534D42A6015530A18F6D9AFFE22AFAE8E66484860000000000000011000014
            00E4080050000000000001001100001400E40800DBF46435C5F14169293CE079
            E344479BF670227E49873F458672C3098DAC467DD5809F369D67409166515787
            1483E01F7BECD02064EAC3E235F913668BBC2F097980D4B378F1993EFF6E60D1
            77309E5B");
        let mut reader = Reader::new(&wire);
        let header = TransformHeader::parse(&mut reader).unwrap();
        let mut message = reader.rest().to_vec();
        keys.encryption.as_ref().unwrap().open(&header, &mut message).unwrap();
        assert_eq!(message[..4], *b"\xFESMB");
    }

    /// "SMB 3.1.1 encryption in Windows 10": a client's WRITE under AES-128-GCM.
    #[test]
    fn smb_3_1_1_example() {
        let session_key = hex("419FDDF34C1E001909D362AE7FB6AF79").try_into().unwrap();
        let hash = hex("B23F3CBFD69487D9832B79B1594A367CDD950909B774C3A4C412B4FCEA9EDDDB
            A7DB256BA2EA30E977F11F9B113247578E0E915C6D2A513B8F2FCA5707DC8770");
        let hash = hash.try_into().unwrap();
        let derivation = KeyDerivation::Preauthentication(&hash);
        let keys =
            SessionKeys::derive(&session_key, derivation, SigningAlgorithm::AesGmac, Some(Cipher::Aes128Gcm));
        let key = keys.decryption.as_ref().unwrap();
        assert_eq!(key.bytes(), hex("A2F5E80E5D59103034F32E52F698E5EC"));
        let mut message = hex("FE534D4240000100000000000900010008000000000000000500000000000000
            FFFE00000100000025000000001000000000000000000000000000000000000031007000170000000000000000000000
            0600000004000000010000000400000000000000000000007000000000000000536D623320656E63
            72797074696F6E2074657374696E67");
        let mut header = TransformHeader {
            signature: [0; 16],
            nonce: hex("C7D6822D269CAF48904C664C00000000").try_into().unwrap(),
            reserved: 0,
            original_size: message.len() as u32,
            flags: 1,
            session: 0x1000_0000_0025,
        };
        key.seal_with(&mut header, &mut message).unwrap();
        assert_eq!(
            message,
            hex("6ECDD2A7AFC7B47763057A041B8FD4DAFFE990B70C9E09D36C084E02D14EF247F8BDE38ACF6256F8
                B1D3B56F77FBDEB312FEA5E92CBCC1ED8FB2EBBFAA75E49A4A394BB44576545567C24D4C014D47C9
                FBDFDAFD2C4F9B72F8D256452620A299F48E29E53D6B61D1C13A19E91AF013F00D17E3ABC2FC3D36
                C8C1B6B93973253852DBD442E46EE8")
        );
    }

    #[test]
    fn every_cipher_opens_what_it_sealed_and_nothing_else() {
        for cipher in [Cipher::Aes128Ccm, Cipher::Aes128Gcm, Cipher::Aes256Ccm, Cipher::Aes256Gcm] {
            let key = CipherKey::new(cipher, [9; 32]);
            let plain: Vec<u8> = (0..200).collect();
            let mut message = plain.clone();
            let header = key.seal(0x0102_0304_0506_0708, 77, &mut message).unwrap();
            assert_ne!(message, plain);
            let sealed = message.clone();
            key.open(&header, &mut message).unwrap();
            assert_eq!(message, plain);

            let mut damaged = sealed.clone();
            damaged[199] ^= 1;
            assert_eq!(key.open(&header, &mut damaged), Err(SealError));
            let other = TransformHeader { session: 78, ..header };
            assert_eq!(key.open(&other, &mut sealed.clone()), Err(SealError));
            assert_eq!(key.open(&header, &mut sealed[..199].to_vec()), Err(SealError));
        }
    }

    #[test]
    fn short_headers_are_malformed() {
        let mut wire = Vec::new();
        let header = TransformHeader {
            signature: [1; 16],
            nonce: [2; 16],
            original_size: 3,
            reserved: 6,
            flags: 4,
            session: 5,
        };
        header.emit(&mut wire);
        assert_eq!(wire.len(), TRANSFORM_HEADER_SIZE);
        assert_eq!(TransformHeader::parse(&mut Reader::new(&wire)), Ok(header));
        for length in 0..TRANSFORM_HEADER_SIZE {
            assert!(TransformHeader::parse(&mut Reader::new(&wire[..length])).is_err());
        }
    }
}
