//! Encrypted messages and signatures: nothing that was not sealed opens, and what was sealed does.
//! Input: two bytes that choose the algorithms, then a message, or a TRANSFORM_HEADER with its message.

use smb::crypto::{Cipher, CipherKey, SigningAlgorithm, SigningKey, TransformHeader};
use smb::reader::Reader;

use crate::input::Input;

/// The target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let cipher = Cipher::from_wire(u16::from(input.byte() % 4) + 1).unwrap();
    let algorithm = SigningAlgorithm::from_wire(u16::from(input.byte() % 3)).unwrap();
    let message = input.rest();
    let key = CipherKey::new(cipher, [0x42; 32]);

    let mut reader = Reader::new(message);
    if let Ok(header) = TransformHeader::parse(&mut reader) {
        let mut body = reader.rest().to_vec();
        // The key is the fuzzer's to know, but not its tags.
        let _ = key.open(&header, &mut body);
    }
    let mut sealed = message.to_vec();
    let header = key.seal(7, 9, &mut sealed).unwrap();
    let mut wire = Vec::new();
    header.emit(&mut wire);
    assert_eq!(TransformHeader::parse(&mut Reader::new(&wire)), Ok(header));
    key.open(&header, &mut sealed).unwrap();
    assert_eq!(sealed, message);

    let key = SigningKey::new(algorithm, [0x17; 16]);
    let _ = key.verify(message);
    let mut signed = message.to_vec();
    key.sign(&mut signed, None);
    assert_eq!(key.verify(&signed).is_ok(), message.len() >= 64);
}
