//! The client's half of NTLMv2 in SPNEGO (MS-NLMP, RFC 4178), no more than a log-on needs.

use hmac::{Hmac, KeyInit, Mac};
use md4::Digest;

type HmacMd5 = Hmac<md5::Md5>;

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";
/// Unicode, request target, sign, NTLM, always sign, extended session security, target info, 128 bit.
const FLAGS: u32 = 0x0000_0001 | 0x4 | 0x10 | 0x200 | 0x8000 | 0x8_0000 | 0x80_0000 | 0x2000_0000;

const SPNEGO: [u8; 8] = [0x06, 0x06, 0x2B, 0x06, 0x01, 0x05, 0x05, 0x02];
const NTLMSSP: [u8; 12] = [0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0A];

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac =
        HmacMd5::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// A DER element: tag, length, content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    match content.len() {
        length @ 0..0x80 => element.push(length as u8),
        length => element.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    element.extend_from_slice(content);
    element
}

/// The first token: a NegTokenInit that offers NTLMSSP, with its NEGOTIATE message.
pub(super) fn negotiate() -> Vec<u8> {
    let mut message = SIGNATURE.to_vec();
    message.extend(1u32.to_le_bytes());
    message.extend(FLAGS.to_le_bytes());
    message.extend([0; 16]);
    let mechanisms = der(0xA0, &der(0x30, &NTLMSSP));
    let token = der(0xA2, &der(0x04, &message));
    let body = der(0xA0, &der(0x30, &[mechanisms, token].concat()));
    der(0x60, &[SPNEGO.to_vec(), body].concat())
}

/// The answer to the server's token, with the session key; `None` when there is no challenge in it.
pub(super) fn authenticate(
    token: &[u8],
    user: &str,
    password: &str,
    client_challenge: [u8; 8],
) -> Option<(Vec<u8>, [u8; 16])> {
    let at = token.windows(8).position(|window| window == SIGNATURE)?;
    let challenge = token.get(at..)?;
    let server_challenge = challenge.get(24..32)?;
    let length = usize::from(u16::from_le_bytes(*challenge.get(40..)?.first_chunk()?));
    let offset = u32::from_le_bytes(*challenge.get(44..)?.first_chunk()?) as usize;
    let target_information = challenge.get(offset..)?.get(..length)?;

    let nt_hash = md4::Md4::digest(utf16(password));
    let key = hmac_md5(&nt_hash, &[&utf16(&user.to_uppercase()), &utf16("SIM")]);
    let mut blob = vec![1, 1, 0, 0, 0, 0, 0, 0];
    // 2024-01-01 as a FILETIME.
    blob.extend(133_485_408_000_000_000u64.to_le_bytes());
    blob.extend(client_challenge);
    blob.extend([0; 4]);
    blob.extend_from_slice(target_information);
    blob.extend([0; 4]);
    let proof = hmac_md5(&key, &[server_challenge, &blob]);
    let session_key = hmac_md5(&key, &[&proof]);

    let response = [&proof[..], &blob].concat();
    let fields: [Vec<u8>; 6] =
        [vec![0; 24], response, utf16("SIM"), utf16(user), utf16("SIMCLIENT"), Vec::new()];
    let mut message = SIGNATURE.to_vec();
    message.extend(3u32.to_le_bytes());
    let mut payload = Vec::new();
    for field in &fields {
        message.extend((field.len() as u16).to_le_bytes());
        message.extend((field.len() as u16).to_le_bytes());
        message.extend((64 + payload.len() as u32).to_le_bytes());
        payload.extend_from_slice(field);
    }
    message.extend(FLAGS.to_le_bytes());
    message.extend(payload);
    Some((der(0xA1, &der(0x30, &der(0xA2, &der(0x04, &message)))), session_key))
}
