//! What client and server may agree on, and what is refused without ending the conversation.

use imagezip::nbd::ClientError;

use super::client::{ACK, INVALID, UNKNOWN, UNSUP, queries, string, wishes};
use super::{Pair, talk};

#[test]
fn go_tells_size_flags_block_sizes_and_a_word_for_people() {
    let pair = Pair::new();
    let size = u64::try_from(pair.state.len()).unwrap().to_be_bytes();
    let root = pair.delta.captured.target_root.to_string();
    // Read-only, several connections; and answers in one piece once there are others.
    let described = |flags: u16| (3, [&[0, 0], &size[..], &flags.to_be_bytes()].concat());
    let ((), (ending, _)) = talk(&pair.export(), |client| {
        client.greet(3);
        assert_eq!(client.option(6, &wishes("", &[])), [described(0b1_0000_0011), (ACK, vec![])]);
        assert_eq!(client.option(8, &[]), [(ACK, vec![])]);
        let replies = client.option(7, &wishes("", &[3, 2, 1, 77]));
        let sizes = [&[0, 3][..], &1_u32.to_be_bytes(), &4096_u32.to_be_bytes(), &(32_u32 << 20).to_be_bytes()];
        let description = [b"\0\x02saved state ", root.as_bytes()].concat();
        let others = [(3, vec![0, 1]), (3, description), (3, sizes.concat()), (ACK, vec![])];
        assert_eq!(replies[0], described(0b1_1000_0011));
        assert_eq!(replies[1..], others);
        client.structured = true;
        assert_eq!(client.read(0, 5, 10), pair.state[5..15]);
    });
    ending.unwrap();
}

#[test]
fn what_is_not_known_or_malformed_is_refused_and_haggling_goes_on() {
    let pair = Pair::new();
    let ((), (ending, _)) = talk(&pair.export(), |client| {
        client.greet(3);
        let mut answer = |option, data: &[u8]| {
            let replies = client.option(option, data);
            (replies.last().unwrap().0, replies.len())
        };
        // TLS, extended headers, and what was never defined.
        for option in [0, 4, 5, 11, 12, u32::MAX] {
            assert_eq!(answer(option, &[]), (UNSUP, 1), "{option}");
            assert_eq!(answer(option, &[7; 5000]), (UNSUP, 1), "{option}");
        }
        assert_eq!(answer(3, &[]), (ACK, 2));
        assert_eq!(answer(3, &[0]), (INVALID, 1));
        assert_eq!(answer(8, &[0]), (INVALID, 1));
        for option in [6, 7] {
            assert_eq!(answer(option, &wishes("other", &[])), (UNKNOWN, 1));
            for bad in [&[][..], &[0; 3], &[0; 5], &[0; 7], &[0xff; 6], b"\0\0\0\0\xff\xff\0\0", b"\0\0\0\0\0\x01\0"] {
                assert_eq!(answer(option, bad), (INVALID, 1), "{bad:?}");
            }
        }
        // Nothing about allocation before there are structured replies.
        assert_eq!(answer(9, &queries("", &[])), (INVALID, 1));
        assert_eq!(answer(10, &queries("", &["base:allocation"])), (INVALID, 1));
        assert_eq!(answer(8, &[]), (ACK, 1));
        assert_eq!(answer(9, &queries("", &[])), (ACK, 2));
        assert_eq!(answer(9, &queries("", &["base:"])), (ACK, 2));
        assert_eq!(answer(9, &queries("", &["qemu:dirty", "base:allocation"])), (ACK, 2));
        assert_eq!(answer(10, &queries("", &["base:allocation"])), (ACK, 2));
        assert_eq!(answer(10, &queries("other", &["base:allocation"])), (UNKNOWN, 1));
        for option in [9, 10] {
            for bad in [&[][..], &[0; 7], &[0xff; 8], &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], &[0; 9]] {
                assert_eq!(answer(option, bad), (INVALID, 1), "{bad:?}");
            }
        }
        // The last selection counts: there is none, and nothing is told.
        assert_eq!(answer(10, &queries("", &["base:", "x"])), (ACK, 1));
        assert_eq!(answer(7, &wishes("", &[])), (ACK, 2));
        client.structured = true;
        assert_eq!(client.refused(0, 7, 0, 4096), 22);
        assert_eq!(client.read(0, 0, 4096), pair.state[..4096]);
    });
    ending.unwrap();
}

#[test]
fn clients_of_old_get_the_disk_by_its_name() {
    let pair = Pair::new();
    for (flags, zeroes) in [(0, 124), (1, 124), (2, 0), (3, 0)] {
        let ((), (ending, _)) = talk(&pair.export(), |client| {
            client.greet(flags);
            client.send(&super::client::option(1, &[]));
            assert_eq!(client.take(), u64::try_from(pair.state.len()).unwrap().to_be_bytes());
            assert_eq!(client.take(), 0b1_0000_0011_u16.to_be_bytes());
            (0..zeroes).for_each(|_| assert_eq!(client.take(), [0]));
            assert_eq!(client.read(0, 3 << 20, 1000), pair.state[3 << 20..(3 << 20) + 1000]);
        });
        ending.unwrap();
    }
    let ((), (ending, _)) = talk(&pair.export(), |client| {
        client.greet(3);
        client.send(&super::client::option(1, b"other"));
        client.expect_end();
    });
    assert!(matches!(ending, Err(ClientError::UnknownExport)), "{ending:?}");
}

#[test]
fn a_client_may_leave() {
    let pair = Pair::new();
    let ((), (ending, _)) = talk(&pair.export(), |client| {
        client.greet(1);
        assert_eq!(client.option(3, &[]), [(2, string("")), (ACK, vec![])]);
        assert_eq!(client.option(2, &[]), [(ACK, vec![])]);
        client.expect_end();
    });
    ending.unwrap();
    // Without a word, before or after the greeting, or after an option.
    for words in 0..3 {
        let (_, (ending, _)) = talk(&pair.export(), |client| {
            if words > 0 {
                client.greet(3);
            }
            if words > 1 {
                client.option(3, &[]);
            }
            client.stream.shutdown(std::net::Shutdown::Both)
        });
        ending.unwrap();
    }
}

#[test]
fn haggling_has_an_end() {
    let pair = Pair::new();
    let ((), (ending, _)) = talk(&pair.export(), |client| {
        client.greet(3);
        (0..64).for_each(|_| drop(client.option(3, &[])));
        client.expect_end();
    });
    assert!(matches!(ending, Err(ClientError::ManyOptions(64))), "{ending:?}");
}
