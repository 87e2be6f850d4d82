//! Connections without TLS.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use testkit::until;

use super::{INSPECTOR, LIMIT, Plane, ask, connect, echo, is_over, listener, nobody, server, summary, talk};
use crate::metrics::Scope;

#[test]
fn bytes_go_both_ways_and_are_logged() {
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[echo("hello ")], "").simple("", "", "c").go();
    assert_eq!(ask(address, "world"), "hello world");
    let line = plane.logged("5/11");
    assert_eq!(line, "- -; up: -; down: -; peer: -; 5/11 c - -");
    plane.reaches("c", "upstream_cx_active", 0);
    plane.reaches("c", "upstream_cx_total", 1);
    assert_eq!(plane.number(&Scope::Tcp("tcp".into()), "downstream_cx_rx_bytes_total"), 5);
}

#[test]
fn an_end_that_has_said_all_still_listens() {
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[summary()], "").simple("", "", "c").go();
    assert_eq!(ask(address, "seven 7"), "7 bytes");
}

#[test]
fn a_server_may_end_first_and_still_listen() {
    let (heard, hears) = std::sync::mpsc::channel();
    let server = server(move |mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        heard.send(rest).unwrap();
    });
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[server], "").simple("", "", "c").go();
    let mut stream = connect(address);
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "bye");
    stream.write_all(b"not yet").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hears.recv_timeout(LIMIT).unwrap(), "not yet");
}

#[test]
fn many_bytes_arrive_unchanged() {
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[echo("")], "").simple("", "", "c").go();
    let sent: Vec<u8> = (0..5_000_000_u32).map(|i| (i * 7 / 3) as u8).collect();
    let mut stream = connect(address);
    let mut writer = stream.try_clone().unwrap();
    let all = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&all).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
}

#[test]
fn a_reader_that_is_slow_slows_the_writer() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Arc::new(std::sync::Mutex::new(released));
    let slow = server(move |mut stream| {
        released.lock().unwrap().recv().unwrap();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[slow], "").simple("", "", "c").go();
    let mut stream = connect(address);
    stream.set_nonblocking(true).unwrap();
    let (chunk, mut sent) = (vec![0; 1 << 16], 0_usize);
    until("the writer to be held up", LIMIT, || match stream.write(&chunk) {
        Ok(written) => {
            sent += written;
            None
        }
        Err(_) => (plane.number(&Scope::Tcp("tcp".into()), "downstream_flow_control_paused_reading_total") > 0
            && plane.number(&Scope::Tcp("tcp".into()), "downstream_flow_control_resumed_reading_total") == 0)
            .then_some(()),
    });
    let taken = plane.number(&Scope::Tcp("tcp".into()), "downstream_cx_rx_bytes_total");
    // What the sockets hold is the kernel's; the proxy itself holds one read.
    assert!(taken < 64 << 20, "{taken} bytes were taken though nobody read them");
    release.send(()).unwrap();
    until("reading to go on", LIMIT, || {
        let _ = stream.write(&chunk);
        (plane.number(&Scope::Tcp("tcp".into()), "downstream_flow_control_resumed_reading_total") > 0).then_some(())
    });
}

#[test]
fn a_reset_is_passed_on() {
    let server = server(|mut stream| {
        let _ = stream.read(&mut [0; 16]);
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[server], "").simple("", "", "c").go();
    let mut stream = connect(address);
    stream.write_all(b"x").unwrap();
    let end = stream.read(&mut [0]).unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    plane.logged("UC -; ");
}

#[test]
fn what_nobody_takes_is_closed_and_logged_by_the_listener() {
    let mut plane = Plane::start();
    let tcp = plane.tcp("cluster: c", "");
    let log = plane.log_path();
    let logs = format!(
        "access_log: [{{name: file, filter: {{response_flag_filter: {{flags: [NR]}}}}, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: {log:?}, log_format: \
         {{text_format_source: {{inline_string: \"%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\\n\"}}}}}}}}]\n\
         {INSPECTOR}"
    );
    let chain = format!("{{filter_chain_match: {{transport_protocol: tls}}, filters: [{tcp}]}}");
    let address = plane.cluster("c", &[echo("")], "").listener(&listener("in", "127.0.0.1", &logs, &[chain])).go();
    assert_eq!(ask(address, "plain text"), "");
    assert_eq!(plane.logged("NR"), "NR filter_chain_not_found");
}

#[test]
fn a_cluster_that_does_not_exist_and_an_endpoint_that_does_not_are_told_apart() {
    let mut plane = Plane::start();
    let address = plane.simple("", "", "nowhere").go();
    assert_eq!(ask(address, "x"), "");
    plane.logged("NC -; ");
    plane.cluster("nowhere", &[], "").go();
    until("the cluster to be known", LIMIT, || {
        ask(address, "x");
        plane.log().iter().any(|line| line.starts_with("UH -; ")).then_some(())
    });
}

#[test]
fn attempts_to_connect_are_made_as_often_as_configured() {
    let mut plane = Plane::start();
    let dead = nobody();
    let tcp = plane.tcp("cluster: c", ", max_connect_attempts: 3");
    let chain = format!("{{filters: [{tcp}]}}");
    let address = plane.cluster("c", &[dead], "").listener(&listener("in", "127.0.0.1", "", &[chain])).go();
    assert_eq!(ask(address, "x"), "");
    let line = plane.logged("UF,URX");
    assert_eq!(line, "UF,URX -; up: delayed_connect_error:_Connection_refused; down: -; peer: -; 0/0 c - -");
    plane.reaches("c", "upstream_cx_connect_fail", 3);
    plane.reaches("c", "upstream_cx_connect_attempts_exceeded", 1);
}

#[test]
fn another_endpoint_is_tried_when_one_refuses() {
    let mut plane = Plane::start();
    let tcp = plane.tcp("cluster: c", ", max_connect_attempts: 2");
    let chain = format!("{{filters: [{tcp}]}}");
    let endpoints = [nobody(), echo("")];
    let address = plane.cluster("c", &endpoints, "").listener(&listener("in", "127.0.0.1", "", &[chain])).go();
    for _ in 0..4 {
        assert_eq!(ask(address, "hi"), "hi");
    }
    until("failures to be told", LIMIT, || {
        let endpoints = plane.plane.endpoints();
        endpoints.values().flatten().any(|e| e.failed >= 2 && e.active == 0).then_some(())
    });
}

#[test]
fn a_connection_that_says_nothing_is_closed_in_time_or_goes_on_as_configured() {
    for (go_on, answer) in [(false, ""), (true, "first ")] {
        let mut plane = Plane::start();
        let tcp = plane.tcp("cluster: c", "");
        let rest =
            format!("listener_filters_timeout: 0.05s\ncontinue_on_listener_filters_timeout: {go_on}\n{INSPECTOR}");
        let chain = format!("{{filters: [{tcp}]}}");
        plane.cluster("c", &[echo("first ")], "");
        let address = plane.listener(&listener("in", "127.0.0.1", &rest, &[chain])).go();
        let mut stream = connect(address);
        let mut said = vec![0; answer.len()];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(String::from_utf8(said).unwrap(), answer);
        assert!(go_on || is_over(&mut stream));
    }
}

#[test]
fn half_a_client_hello_and_garbage_harm_nobody() {
    let mut plane = Plane::start();
    let tcp = plane.tcp("cluster: c", "");
    let chain = format!("{{filters: [{tcp}]}}");
    plane.cluster("c", &[echo("")], "");
    let address = plane.listener(&listener("in", "127.0.0.1", INSPECTOR, &[chain])).go();
    let mut half = connect(address);
    half.write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    assert!(is_over(&mut half));
    // What is no TLS is passed on as it is.
    let mut garbage = connect(address);
    assert_eq!(talk(&mut garbage, "\u{16}\u{7f}garbage", 9), "\u{16}\u{7f}garbage");
}

#[test]
fn silence_ends_a_connection_after_the_idle_timeout() {
    let mut plane = Plane::start();
    let tcp = plane.tcp("cluster: c", ", idle_timeout: 0.1s");
    let chain = format!("{{filters: [{tcp}]}}");
    plane.cluster("c", &[echo("")], "");
    let address = plane.listener(&listener("in", "127.0.0.1", "", &[chain])).go();
    let mut stream = connect(address);
    assert_eq!(talk(&mut stream, "still here", 10), "still here");
    assert!(is_over(&mut stream));
    plane.logged("SI -; ");
}

#[test]
fn a_connection_lasts_no_longer_than_it_may() {
    let mut plane = Plane::start();
    let tcp = plane.tcp("cluster: c", ", max_downstream_connection_duration: 0.1s");
    let chain = format!("{{filters: [{tcp}]}}");
    plane.cluster("c", &[echo("")], "");
    let address = plane.listener(&listener("in", "127.0.0.1", "", &[chain])).go();
    let mut stream = connect(address);
    assert!(is_over(&mut stream));
    plane.logged("DT -; ");
}
