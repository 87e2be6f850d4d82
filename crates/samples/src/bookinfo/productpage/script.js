document.getElementById("sign-in-button").addEventListener("click", () => document.getElementById("login-modal").showModal());
