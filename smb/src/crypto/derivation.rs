//! From a log-on's session key to the keys of a session (MS-SMB2 3.1.4.2, 3.3.5.5.3).

use super::sha256::HmacSha256;
use super::signing::{SigningAlgorithm, SigningKey};
use super::transform::{Cipher, CipherKey};

/// How the dialect makes its keys.
#[derive(Clone, Copy, Debug)]
pub enum KeyDerivation<'a> {
    /// SMB 2.0.2 and 2.1: the session key signs, and nothing is encrypted.
    SessionKey,
    /// SMB 3.0 and 3.0.2: derived with fixed labels and contexts.
    FixedLabels,
    /// SMB 3.1.1: derived with the session's preauthentication hash as context.
    Preauthentication(&'a [u8; 64]),
}

/// The keys of a session, or of a channel that was bound to it (then only `signing` is used).
#[derive(Clone)]
pub struct SessionKeys {
    /// Signs messages both ways.
    pub signing: SigningKey,
    /// For the applications on top, as named-pipe clients ask for it.
    pub application: [u8; 16],
    /// Encrypts what the server sends.
    pub encryption: Option<CipherKey>,
    /// Decrypts what the client sends.
    pub decryption: Option<CipherKey>,
}

impl core::fmt::Debug for SessionKeys {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("SessionKeys(..)")
    }
}

impl SessionKeys {
    /// Derives the keys. `algorithm` is HMAC-SHA256 for SMB 2, AES-CMAC for 3.0 and 3.0.2, the negotiated one for 3.1.1. Without a `cipher` the session encrypts nothing; SMB 3.0 and 3.0.2 have AES-128-CCM only.
    ///
    /// `session_key` is the log-on's; for AES-256 MS-SMB2 takes the full key, which with NTLM is the same 16 bytes.
    pub fn derive(
        session_key: &[u8; 16],
        derivation: KeyDerivation<'_>,
        algorithm: SigningAlgorithm,
        cipher: Option<Cipher>,
    ) -> SessionKeys {
        // Label and context of: signing, application, encryption (server to client), decryption. The zero bytes at the
        // ends belong to them.
        let inputs: [(&[u8], &[u8]); 4] = match derivation {
            KeyDerivation::SessionKey => {
                return SessionKeys {
                    signing: SigningKey::new(algorithm, *session_key),
                    application: *session_key,
                    encryption: None,
                    decryption: None,
                };
            }
            KeyDerivation::FixedLabels => [
                (b"SMB2AESCMAC\0", b"SmbSign\0"),
                (b"SMB2APP\0", b"SmbRpc\0"),
                (b"SMB2AESCCM\0", b"ServerOut\0"),
                (b"SMB2AESCCM\0", b"ServerIn \0"),
            ],
            KeyDerivation::Preauthentication(hash) => [
                (b"SMBSigningKey\0", hash),
                (b"SMBAppKey\0", hash),
                (b"SMBS2CCipherKey\0", hash),
                (b"SMBC2SCipherKey\0", hash),
            ],
        };
        let [signing, application, encryption, decryption] = inputs;
        let cipher_key = |(label, context): (&[u8], &[u8])| {
            cipher.map(|cipher| {
                let mut key = [0; 32];
                if cipher.key_length() == 32 {
                    key = derive::<32>(session_key, label, context);
                } else {
                    let (short, _) = key.split_at_mut(16);
                    short.copy_from_slice(&derive::<16>(session_key, label, context));
                }
                CipherKey::new(cipher, key)
            })
        };
        SessionKeys {
            signing: SigningKey::new(algorithm, derive(session_key, signing.0, signing.1)),
            application: derive(session_key, application.0, application.1),
            encryption: cipher_key(encryption),
            decryption: cipher_key(decryption),
        }
    }
}

/// SP 800-108 in counter mode with HMAC-SHA256, a 32-bit counter and length, and `LENGTH` (at most 32) bytes of output.
fn derive<const LENGTH: usize>(key: &[u8; 16], label: &[u8], context: &[u8]) -> [u8; LENGTH] {
    const { assert!(LENGTH <= 32 && LENGTH > 0) };
    let mut mac = HmacSha256::new(key);
    mac.update(&1u32.to_be_bytes());
    mac.update(label);
    mac.update(&[0]);
    mac.update(context);
    mac.update(&(LENGTH as u32 * 8).to_be_bytes());
    let block = mac.finish();
    let mut output = [0; LENGTH];
    for (to, from) in output.iter_mut().zip(block) {
        *to = from;
    }
    output
}

#[cfg(test)]
mod tests {
    use super::super::tests::hex;
    use super::*;

    const CMAC: SigningAlgorithm = SigningAlgorithm::AesCmac;

    /// "Encryption in SMB 3.0: a protocol perspective" and the two-channel example, Microsoft Open Specifications.
    #[test]
    fn keys_of_smb_3_0() {
        let session_key = hex("7CD451825D0450D235424E44BA6E78CC").try_into().unwrap();
        let keys =
            SessionKeys::derive(&session_key, KeyDerivation::FixedLabels, CMAC, Some(Cipher::Aes128Ccm));
        assert_eq!(keys.signing.key[..], hex("0B7E9C5CAC36C0F6EA9AB275298CEDCE"));
        assert_eq!(keys.application[..], hex("BB23A4575AA26C721AF525AF15A87B4F"));
        // The example is a client's: its encryption key is the server's decryption key.
        assert_eq!(keys.decryption.as_ref().unwrap().bytes(), hex("FAD27796665B313EBB578F388632B4F7"));
        assert_eq!(keys.encryption.as_ref().unwrap().bytes(), hex("B0F0427F7CEB416D1D9DCC0CD4F99447"));
    }

    /// "SMB 3.1.1 pre-authentication integrity in Windows 10".
    #[test]
    fn keys_of_smb_3_1_1() {
        let session_key = hex("270E1BA896585EEB7AF3472D3B4C75A7").try_into().unwrap();
        let hash = hex("0DD13628CC3ED218EF9DF9772D436D0887AB9814BFAE63A80AA845F36909DB79
                        28622DDDAD522D9751640A459762C5A9D6BB084CBB3CE6BDADEF5D5BCE3C6C01");
        let hash = hash.try_into().unwrap();
        let keys = SessionKeys::derive(&session_key, KeyDerivation::Preauthentication(&hash), CMAC, None);
        assert_eq!(keys.signing.key[..], hex("73FE7A9A77BEF0BDE49C650D8CCB5F76"));
        assert!(keys.encryption.is_none());
    }

    #[test]
    fn smb_2_uses_the_session_key_itself() {
        let keys = SessionKeys::derive(&[7; 16], KeyDerivation::SessionKey, CMAC, Some(Cipher::Aes128Gcm));
        assert_eq!(keys.signing.key, [7; 16]);
        assert!(keys.decryption.is_none());
    }
}
