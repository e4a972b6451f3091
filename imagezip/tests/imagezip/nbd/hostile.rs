//! A client that lies, stops in the middle, or talks nonsense is disconnected; the server serves the next one.

use std::net::{Shutdown, TcpStream};

use imagezip::nbd::{MOST_CLIENTS, handshake, transmit};
use proptest::prelude::*;

use super::client::{Client, option, queries, request, wishes};
use super::{Pair, serve};

/// Sends what is to be said after the greeting, hangs up that side, and takes whatever comes.
fn say(stream: TcpStream, words: &[u8]) {
    let mut client = Client::new(stream);
    client.take::<18>();
    // The server may hang up while this is being sent.
    std::io::Write::write_all(&mut client.stream, words).ok();
    client.stream.shutdown(Shutdown::Write).ok();
    std::io::copy(&mut client.stream, &mut std::io::sink()).ok();
}

#[test]
fn nonsense_ends_the_conversation_and_not_the_server() {
    let pair = Pair::new();
    let hello = 3_u32.to_be_bytes();
    let go = [&hello[..], &option(7, &wishes("", &[]))].concat();
    let long = |number: u32, len: u32| [b"IHAVEOPT", &number.to_be_bytes()[..], &len.to_be_bytes()].concat();
    let words: Vec<(Vec<u8>, bool)> = vec![
        (vec![], false),
        // Cut short: inside of the flags, of an option, of its data, of a request, of the data of a write.
        (hello[..2].to_vec(), true),
        ([&hello[..], b"IHAVE"].concat(), true),
        ([&hello[..], &long(7, 100), &[0; 50]].concat(), true),
        ([&go[..], &request(0, 0, 0, 512)[..27]].concat(), true),
        ([&go[..], &request(0, 1, 0, 512), &[0; 511]].concat(), true),
        // Huge.
        ([&hello[..], &long(7, (16 << 10) + 1)].concat(), true),
        ([&hello[..], &long(99, u32::MAX)].concat(), true),
        ([&go[..], &request(0, 1, 0, (32 << 20) + 1)].concat(), true),
        ([&go[..], &request(0, 1, 0, u32::MAX)].concat(), true),
        // Not NBD.
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), true),
        ([&hello[..], b"IHAVEOPS\0\0\0\x07\0\0\0\0"].concat(), true),
        ([&go[..], &[0x25; 28]].concat(), true),
        (u32::MAX.to_be_bytes().to_vec(), true),
        (4_u32.to_be_bytes().to_vec(), true),
        // No harm: asks, hangs up its side, and still gets all answers.
        ([&go[..], &request(0, 0, 0, 5 << 20).repeat(4)].concat(), false),
    ];
    let expected = words.iter().filter(|(_, trouble)| *trouble).count();
    let ((), troubles) = serve(&pair.export(), |connect| {
        for (words, _) in &words {
            say(connect(), words);
            let mut client = Client::new(connect());
            client.go(true);
            assert_eq!(client.read(0, 300_000, 5000), pair.state[300_000..305_000]);
        }
    });
    assert_eq!(troubles.len(), expected, "{troubles:?}");
    assert!(troubles.iter().all(|trouble| trouble.contains("was disconnected")), "{troubles:?}");
}

#[test]
fn two_are_served_at_once_and_one_too_many_is_turned_away() {
    let pair = Pair::new();
    let ((), troubles) = serve(&pair.export(), |connect| {
        let mut clients: Vec<_> = (0..MOST_CLIENTS).map(|_| Client::new(connect())).collect();
        clients.iter_mut().enumerate().for_each(|(number, client)| client.go(number % 2 == 0));
        // All questions are under way before the first answer is taken.
        for client in &mut clients {
            client.send(&request(0, 0, 100, 100));
        }
        for client in clients.iter_mut().rev() {
            let payload = client.reply(100).payload;
            assert!(payload.ends_with(&pair.state[100..200]));
        }
        Client::new(connect()).expect_end();
        // Who leaves makes room; when exactly is not known from here.
        clients.pop();
        loop {
            let mut client = Client::new(connect());
            let mut first = [0];
            if std::io::Read::read(&mut client.stream, &mut first).is_ok_and(|read| read == 1) {
                break;
            }
        }
    });
    assert!(troubles[0].contains("turned away") && troubles[0].contains("makes room"), "{troubles:?}");
}

#[test]
fn a_server_that_stops_ends_clients_that_wait_and_clients_that_do_not_read() {
    let pair = Pair::new();
    let (mut clients, troubles) = serve(&pair.export(), |connect| {
        let mut clients = vec![Client::new(connect()), Client::new(connect()), Client::new(connect())];
        clients[1].go(true);
        clients[2].go(true);
        clients[2].send(&request(0, 0, 0, 5 << 20).repeat(10));
        // All three are being served.
        clients[0].take::<18>();
        clients[2].take::<4>();
        clients
    });
    clients[0].expect_end();
    clients[1].expect_end();
    std::io::copy(&mut clients[2].stream, &mut std::io::sink()).ok();
    assert!(troubles.is_empty(), "{troubles:?}");
}

/// Words that are nearly right: a conversation whose bytes are changed here and there.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let numbers = (0_u32..13, prop_oneof![Just(vec![]), Just(wishes("", &[3])), Just(queries("", &["base:"]))]);
    let options = proptest::collection::vec(numbers, 0..6);
    let requests = proptest::collection::vec((0_u16..10, 0_u16..9, any::<u64>(), any::<u32>()), 0..6);
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (options, requests, changes).prop_map(|(options, requests, changes)| {
        let mut words = Vec::from(3_u32.to_be_bytes());
        options.iter().for_each(|(number, data)| words.extend(option(*number, data)));
        words.extend(option(7, &wishes("", &[])));
        for (flags, command, offset, bytes) in requests {
            words.extend(request(flags, command, offset % (6 << 20), bytes % (2 << 20)));
        }
        changes.iter().for_each(|(place, byte)| {
            let len = words.len();
            words[place.index(len)] = *byte;
        });
        words
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_words_are_too_much(words in nearly_right()) {
        static EXPORT: std::sync::LazyLock<super::Export> = std::sync::LazyLock::new(|| Pair::new().export());
        let (mut input, mut output) = (&words[..], std::io::sink());
        if let Ok(Some(agreed)) = handshake(&mut input, &mut output, &EXPORT) {
            // Whatever it is, the image is good.
            drop(transmit(&mut input, &mut output, &EXPORT, agreed, &|trouble| panic!("{trouble}")));
        }
    }
}
