//! Random OTLP requests as wire bytes: any field order, repeated singular fields, unknown fields and groups, and
//! damage. Made from a seed, field by field, because an encoder would never write most of them.

use fastrand::Rng;

/// A request; about one in three is damaged.
pub(crate) fn request(seed: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    let mut bytes = valid(&mut rng);
    if rng.u8(..3) == 0 {
        damage(&mut rng, &mut bytes);
    }
    bytes
}

/// A request that is not damaged.
pub(crate) fn valid(rng: &mut Rng) -> Vec<u8> {
    let resources = (0..rng.usize(..4)).map(|_| (1, resource_spans(rng))).collect::<Vec<_>>();
    message(rng, resources, &[])
}

fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.u8(..)),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            _ if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            _ => {}
        }
    }
}

fn resource_spans(rng: &mut Rng) -> Vec<u8> {
    let mut fields = Vec::new();
    for _ in 0..rng.usize(..3) {
        fields.push((1, resource(rng)));
    }
    for _ in 0..rng.usize(..4) {
        fields.push((2, scope_spans(rng)));
    }
    for _ in 0..rng.usize(..2) {
        fields.push((3, text(rng)));
    }
    message(rng, fields, &[])
}

fn scope_spans(rng: &mut Rng) -> Vec<u8> {
    let mut fields = Vec::new();
    for _ in 0..rng.usize(..3) {
        let inner = vec![(1, text(rng)), (2, text(rng)), (3, key_value(rng, 3))];
        fields.push((1, message(rng, inner, &[(4, Scalar::Varint)])));
    }
    for _ in 0..rng.usize(..5) {
        fields.push((2, span(rng)));
    }
    for _ in 0..rng.usize(..2) {
        fields.push((3, text(rng)));
    }
    message(rng, fields, &[])
}

fn resource(rng: &mut Rng) -> Vec<u8> {
    let mut fields: Vec<_> = (0..rng.usize(..3)).map(|_| (1, key_value(rng, 3))).collect();
    if rng.u8(..6) == 0 {
        let entity = vec![(1, text(rng)), (2, text(rng)), (3, text(rng)), (4, text(rng))];
        fields.push((3, message(rng, entity, &[])));
    }
    message(rng, fields, &[(2, Scalar::Varint)])
}

fn span(rng: &mut Rng) -> Vec<u8> {
    let mut fields = Vec::new();
    for _ in 0..repeats(rng) {
        fields.push((1, id(rng, 16, 3)));
    }
    for _ in 0..repeats(rng) {
        fields.push((2, id(rng, 8, 200)));
    }
    for _ in 0..rng.usize(..3) {
        fields.push((4, id(rng, 8, 200)));
    }
    fields.push((5, text(rng)));
    if rng.bool() {
        fields.push((3, text(rng)));
    }
    for _ in 0..rng.usize(..4) {
        fields.push((9, key_value(rng, 4)));
    }
    if rng.u8(..4) == 0 {
        let event = vec![(2, text(rng)), (3, key_value(rng, 2))];
        fields.push((11, message(rng, event, &[(1, Scalar::Fixed64), (4, Scalar::Varint)])));
        let link = vec![(1, id(rng, 16, 3)), (2, id(rng, 8, 9)), (3, text(rng))];
        fields.push((13, message(rng, link, &[(5, Scalar::Varint), (6, Scalar::Fixed32)])));
        let status = vec![(2, text(rng))];
        fields.push((15, message(rng, status, &[(3, Scalar::Varint)])));
    }
    let scalars = [
        (6, Scalar::Varint),
        (7, Scalar::Fixed64),
        (8, Scalar::Fixed64),
        (10, Scalar::Varint),
        (16, Scalar::Fixed32),
    ];
    message(rng, fields, &scalars)
}

/// Mostly once; sometimes not at all or twice.
fn repeats(rng: &mut Rng) -> usize {
    [0, 1, 1, 1, 1, 1, 1, 1, 2][rng.usize(..9)]
}

/// One of a few ids; sometimes zero, empty or of another length.
fn id(rng: &mut Rng, len: usize, different: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    if rng.u8(..20) > 0 {
        bytes[len - 1] = 1 + rng.u8(..different);
    }
    if rng.u8(..25) == 0 {
        bytes.truncate(rng.usize(..len));
    }
    bytes
}

fn key_value(rng: &mut Rng, depth: u32) -> Vec<u8> {
    let fields = vec![(1, text(rng)), (2, any_value(rng, depth))];
    message(rng, fields, &[])
}

fn any_value(rng: &mut Rng, depth: u32) -> Vec<u8> {
    let fields = match rng.u8(..8) {
        0 if depth > 0 => {
            let values = (0..rng.usize(..3)).map(|_| (1, any_value(rng, depth - 1))).collect();
            vec![(5, message(rng, values, &[]))]
        }
        1 if depth > 0 => {
            let values = (0..rng.usize(..3)).map(|_| (1, key_value(rng, depth - 1))).collect();
            vec![(6, message(rng, values, &[]))]
        }
        2 => vec![(7, bytes(rng))],
        3 => return message(rng, Vec::new(), &[(3, Scalar::Varint)]),
        4 => return message(rng, Vec::new(), &[(2, Scalar::Varint), (4, Scalar::Fixed64)]),
        5 => Vec::new(),
        _ => vec![(1, text(rng))],
    };
    message(rng, fields, &[])
}

/// A chain of nested values, for the limit of nesting.
pub(crate) fn deep(levels: usize) -> Vec<u8> {
    let value = (0..levels).fold(Vec::new(), |inner, _| {
        let mut array = Vec::new();
        put(&mut array, 1, &inner);
        let mut value = Vec::new();
        put(&mut value, 5, &array);
        value
    });
    let mut attribute = Vec::new();
    put(&mut attribute, 2, &value);
    [9, 2, 2, 1].iter().fold(attribute, |inner, &number| {
        let mut outer = Vec::new();
        put(&mut outer, number, &inner);
        outer
    })
}

fn text(rng: &mut Rng) -> Vec<u8> {
    let letters = |rng: &mut Rng, len| (0..len).map(|_| rng.u8(b'a'..=b'z')).collect::<Vec<_>>();
    match rng.u8(..200) {
        0 => vec![0xff],
        1 => "grüße €".into(),
        2..10 => {
            // As long as those in real requests, and longer than a length of one byte can say.
            let len = rng.usize(6..140);
            let mut text = letters(rng, len);
            if rng.u8(..8) == 0 {
                text[rng.usize(..len)] |= 0x80;
            }
            text
        }
        _ => {
            let len = rng.usize(..6);
            letters(rng, len)
        }
    }
}

fn bytes(rng: &mut Rng) -> Vec<u8> {
    (0..rng.usize(..6)).map(|_| rng.u8(..)).collect()
}

#[derive(Clone, Copy)]
enum Scalar {
    Varint,
    Fixed32,
    Fixed64,
}

/// The fields in any order, with unknown ones between them.
fn message(rng: &mut Rng, fields: Vec<(u32, Vec<u8>)>, scalars: &[(u32, Scalar)]) -> Vec<u8> {
    let mut encoded: Vec<Vec<u8>> = Vec::new();
    for (number, value) in fields {
        let mut out = Vec::new();
        put(&mut out, number, &value);
        encoded.push(out);
    }
    for &(number, scalar) in scalars {
        for _ in 0..rng.usize(..2) {
            encoded.push(scalar_field(rng, number, scalar));
        }
    }
    if rng.u8(..8) == 0 {
        encoded.push(unknown(rng, 3));
    }
    rng.shuffle(&mut encoded);
    encoded.concat()
}

fn scalar_field(rng: &mut Rng, number: u32, scalar: Scalar) -> Vec<u8> {
    let mut out = Vec::new();
    match scalar {
        Scalar::Varint => {
            varint(&mut out, u64::from(number << 3));
            let value = if rng.u8(..10) == 0 { rng.u64(..) } else { rng.u64(..8) };
            varint(&mut out, value);
        }
        Scalar::Fixed32 => {
            varint(&mut out, u64::from(number << 3 | 5));
            out.extend(rng.u32(..).to_le_bytes());
        }
        Scalar::Fixed64 => {
            varint(&mut out, u64::from(number << 3 | 1));
            out.extend(rng.u64(..).to_le_bytes());
        }
    }
    out
}

fn unknown(rng: &mut Rng, depth: u32) -> Vec<u8> {
    let number = rng.u32(100..1 << 20);
    let mut out = Vec::new();
    match rng.u8(..5) {
        0 => put(&mut out, number, &bytes(rng)),
        1 => out = scalar_field(rng, number, Scalar::Fixed32),
        2 => out = scalar_field(rng, number, Scalar::Fixed64),
        3 if depth > 0 => {
            varint(&mut out, u64::from(number << 3 | 3));
            out.extend(unknown(rng, depth - 1));
            varint(&mut out, u64::from(number << 3 | 4));
        }
        _ => out = scalar_field(rng, number, Scalar::Varint),
    }
    out
}

fn put(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    varint(out, u64::from(number << 3 | 2));
    varint(out, u64::try_from(value.len()).expect("small"));
    out.extend(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}
