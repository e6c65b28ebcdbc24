// Records from the microphone in the browser, and returns a WAV of one channel and 16 bits.

// An ArrayBuffer of a WAV file; samples beyond ±1 are clipped.
function wavOf(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (offset, letters) => [...letters].forEach((c, i) => view.setUint8(offset + i, c.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // bytes of the format's description
  view.setUint16(20, 1, true); // integers, not compressed
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true); // bytes per second
  view.setUint16(32, 2, true); // bytes per sample of all channels
  view.setUint16(34, 16, true); // bits per sample
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => {
    view.setInt16(44 + 2 * i, Math.round(32767 * Math.max(-1, Math.min(1, sample))), true);
  });
  return view.buffer;
}

// The mean of the channels of an AudioBuffer.
function monoOf(audio) {
  const mono = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    audio.getChannelData(channel).forEach((sample, i) => { mono[i] += sample / audio.numberOfChannels; });
  }
  return mono;
}

function base64Of(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

const FAILURES = {
  NotAllowedError: "The browser does not let this page use the microphone. Allow it beside the address, and record again.",
  NotFoundError: "No microphone was found. Plug one in, or use a file.",
  NotReadableError: "Another programme uses the microphone. Close it, and record again.",
  NotSupportedError: "This page cannot record: browsers allow it only to pages of https:// and localhost, and some editors to none. Record with another programme, and use the file.",
  EncodingError: "Nothing was recorded. Speak, and then press Stop.",
};

// Runs the buttons in `root`. Returns a promise of the first recording, {wav: base64}, or of the reason for none, {error}.
function recorder(root, maxSeconds, rate) {
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const [record, stop, message, player, save] = ["record", "stop", "message", "player", "save"].map(part);

  async function open() {
    if (!navigator.mediaDevices || !window.MediaRecorder) throw { name: "NotSupportedError" };
    // Processing for telephone calls removes loudness and breath, which carry emotion.
    const plain = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    return navigator.mediaDevices.getUserMedia({ audio: plain });
  }

  function untilStopped(stream) {
    return new Promise((resolve, reject) => {
      const chunks = [], machine = new MediaRecorder(stream, { audioBitsPerSecond: 256000 });
      const started = performance.now();
      const clock = setInterval(() => {
        const seconds = (performance.now() - started) / 1000;
        message.textContent = `recording, ${seconds.toFixed(1)} of at most ${maxSeconds} s`;
        if (seconds >= maxSeconds) stop.click();
      }, 100);
      machine.ondataavailable = (event) => chunks.push(event.data);
      machine.onerror = (event) => reject(event.error);
      machine.onstop = () => { clearInterval(clock); resolve(new Blob(chunks, { type: machine.mimeType })); };
      stop.onclick = () => { stop.disabled = true; machine.stop(); };
      stop.disabled = false;
      machine.start();
    });
  }

  async function once() {
    const stream = await open();
    let recorded;
    try {
      recorded = await untilStopped(stream);
    } finally {
      stream.getTracks().forEach((track) => track.stop()); // switches off the browser's recording sign
    }
    const audio = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await recorded.arrayBuffer());
    const wav = new Blob([wavOf(monoOf(audio), rate)], { type: "audio/wav" });
    player.src = save.href = URL.createObjectURL(wav);
    player.hidden = save.hidden = false;
    message.textContent = `${audio.duration.toFixed(1)} s recorded.`;
    return { wav: await base64Of(wav) };
  }

  return new Promise((resolve) => {
    record.onclick = async () => {
      record.disabled = true;
      message.textContent = "waiting for the microphone …";
      try {
        resolve(await once());
      } catch (error) {
        message.textContent = FAILURES[error.name] || `Recording failed: ${error.message || error.name}`;
        resolve({ error: message.textContent });
      }
      record.disabled = false;
      stop.disabled = true;
    };
  });
}
