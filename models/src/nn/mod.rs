//! The networks, as burn modules. One file an architecture; every forward pass is captured and
//! lowered to ONNX by the host, so there is no second description of any of them.
