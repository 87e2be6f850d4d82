//! Bookinfo as it is deployed, before any mesh has a say in it.

use testkit::Session;

fn the_shop_shows_its_book_with_and_without_ratings(s: &Session<'_>) {
    s.sample("bookinfo/platform/kube/bookinfo.yaml");
    s.sh("kubectl wait deployment --all --for=condition=Available --timeout=80s").ok();
    let get = |from: &str, url: &str| s.sh(&format!("kubectl exec deploy/{from} -- curl -sS '{url}'")).ok();
    let page = get("ratings-v1", "http://productpage:9080/productpage?u=normal");
    for part in ["<title>Simple Bookstore App</title>", "<dt>Publisher:</dt><dd>PublisherA</dd>", "Reviews served by"] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    let address = |version: &str| {
        let selector = format!("app=reviews,version={version}");
        s.sh(&format!("kubectl get pod -l {selector} -o jsonpath='{{.items[0].status.podIP}}'")).ok()
    };
    let reviews = |version: &str| get("ratings-v1", &format!("http://{}:9080/reviews/0", address(version)));
    assert!(!reviews("v1").contains("rating"));
    assert!(reviews("v2").contains(r#""rating": {"stars": 5, "color": "black"}"#), "{}", reviews("v2"));
    assert!(reviews("v3").contains(r#""rating": {"stars": 4, "color": "red"}"#), "{}", reviews("v3"));
    s.sh("kubectl delete service ratings").ok();
    s.sh("kubectl scale deployment reviews-v1 reviews-v2 --replicas=0").ok();
    let gone = r#""error": "Ratings service is currently unavailable""#;
    testkit::until("reviews without ratings", std::time::Duration::from_secs(60), || {
        reviews("v3").contains(gone).then_some(())
    });
    let page = "kubectl exec deploy/ratings-v1 -- curl -sS http://productpage:9080/productpage | grep -c 'Ratings service is currently unavailable'";
    s.until_prints(page, "2");
}

crate::scenarios![the_shop_shows_its_book_with_and_without_ratings];
